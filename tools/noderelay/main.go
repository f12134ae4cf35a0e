// Joins the network namespace of the real node with the loopback of the machine around it, and nothing else with either:
//
//	noderelay -netns /proc/PID/ns/net -egress SOCKET -listen INSIDE=OUTSIDE …
//
// What connects to an address INSIDE the namespace reaches the address OUTSIDE of it: the API server and the registry.
// SOCKET is a proxy of HTTP CONNECT by which the API server reaches what is inside: the kubelet, and pods. So the node
// needs no interface and no route on the machine.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Runs something in a network namespace. Sockets that it opens stay there.
func within(namespace *os.File, do func() error) error {
	failed := make(chan error)
	go func() {
		// Never unlocked: the thread ends with this goroutine and takes the namespace with it.
		runtime.LockOSThread()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			failed <- fmt.Errorf("enter the namespace: %w", err)
			return
		}
		failed <- do()
	}()
	return <-failed
}

// One way of a connection, which may be closed while the other is still open.
func copyTo(to net.Conn, reader io.Reader, done chan<- struct{}) {
	_, _ = io.Copy(to, reader)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	done <- struct{}{}
}

func join(one net.Conn, buffered io.Reader, other net.Conn) {
	done := make(chan struct{}, 2)
	go copyTo(other, buffered, done)
	go copyTo(one, other, done)
	<-done
	<-done
	_ = one.Close()
	_ = other.Close()
}

func outwards(namespace *os.File, pair string) error {
	inside, outside, found := strings.Cut(pair, "=")
	if !found {
		return fmt.Errorf("-listen %q: write INSIDE=OUTSIDE", pair)
	}
	var listener net.Listener
	err := within(namespace, func() (err error) {
		listener, err = net.Listen("tcp", inside)
		return err
	})
	if err != nil {
		return fmt.Errorf("listen on %s: %w", inside, err)
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				log.Fatalf("accept on %s: %v", inside, err)
			}
			go func() {
				server, err := net.Dial("tcp", outside)
				if err != nil {
					log.Printf("connect to %s: %v", outside, err)
					_ = client.Close()
					return
				}
				join(client, client, server)
			}()
		}
	}()
	return nil
}

// Answers one CONNECT and becomes the connection that it asked for.
func inwards(namespace *os.File, client net.Conn) {
	reader := bufio.NewReader(client)
	request, err := http.ReadRequest(reader)
	if err != nil || request.Method != http.MethodConnect {
		_, _ = io.WriteString(client, "HTTP/1.1 405 Method Not Allowed\r\n\r\n")
		_ = client.Close()
		return
	}
	var server net.Conn
	err = within(namespace, func() (err error) {
		server, err = (&net.Dialer{}).DialContext(context.Background(), "tcp", request.Host)
		return err
	})
	if err != nil {
		log.Printf("connect to %s: %v", request.Host, err)
		_, _ = io.WriteString(client, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		_ = client.Close()
		return
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection Established\r\n\r\n")
	join(client, reader, server)
}

func main() {
	log.SetFlags(0)
	var pairs []string
	path := flag.String("netns", "", "file of the namespace")
	socket := flag.String("egress", "", "socket on which CONNECT is answered")
	flag.Func("listen", "INSIDE=OUTSIDE, as often as need be", func(pair string) error {
		pairs = append(pairs, pair)
		return nil
	})
	flag.Parse()
	namespace, err := os.Open(*path)
	if err != nil {
		log.Fatalf("open the namespace: %v", err)
	}
	for _, pair := range pairs {
		if err := outwards(namespace, pair); err != nil {
			log.Fatal(err)
		}
	}
	// One that a killed process left is in the way.
	_ = os.Remove(*socket)
	listener, err := net.Listen("unix", *socket)
	if err != nil {
		log.Fatalf("listen on the socket: %v", err)
	}
	log.Print("ready")
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatalf("accept on the socket: %v", err)
		}
		go inwards(namespace, client)
	}
}
