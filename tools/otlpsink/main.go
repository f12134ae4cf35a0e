// otlpsink takes logs and traces over OTLP/HTTP with the OpenTelemetry Collector's own receiver.
//
//	otlpsink ADDRESS
//
// Prints `listening` once it does, and then a line for each request that was taken: `logs JSON` or `traces JSON`, where JSON is
// the data as the collector writes it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: otlpsink ADDRESS")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "otlpsink:", err)
		os.Exit(1)
	}
}

// out keeps the lines of requests that come at the same time apart.
var out sync.Mutex

func show(kind string, line []byte, err error) error {
	out.Lock()
	defer out.Unlock()
	if err == nil {
		_, err = fmt.Printf("%s %s\n", kind, line)
	}
	return err
}

func run(address string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	receivers, err := receivers(ctx, address)
	if err != nil {
		return err
	}
	for _, receiver := range receivers {
		if err := receiver.Start(ctx, componenttest.NewNopHost()); err != nil {
			return err
		}
	}
	fmt.Println("listening")
	<-ctx.Done()
	for _, receiver := range receivers {
		if err := receiver.Shutdown(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

// receivers has one for each kind of data; they share the listener.
func receivers(ctx context.Context, address string) ([]component.Component, error) {
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	http := map[string]any{"endpoint": address}
	settings := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{"http": http}})
	if err := settings.Unmarshal(config); err != nil {
		return nil, err
	}
	logs, err := consumer.NewLogs(func(_ context.Context, logs plog.Logs) error {
		line, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
		return show("logs", line, err)
	})
	if err != nil {
		return nil, err
	}
	traces, err := consumer.NewTraces(func(_ context.Context, traces ptrace.Traces) error {
		line, err := (&ptrace.JSONMarshaler{}).MarshalTraces(traces)
		return show("traces", line, err)
	})
	if err != nil {
		return nil, err
	}
	of := receivertest.NewNopSettings(factory.Type())
	ofLogs, err := factory.CreateLogs(ctx, of, config, logs)
	if err != nil {
		return nil, err
	}
	ofTraces, err := factory.CreateTraces(ctx, of, config, traces)
	return []component.Component{ofLogs, ofTraces}, err
}
