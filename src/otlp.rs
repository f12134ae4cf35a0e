//! What OpenTelemetry's collector takes, by OTLP over HTTP in its binary encoding (`opentelemetry-proto:docs/specification.md`): spans of
//! reviews, which are sent here, and decision records, which `upload` sends.

mod context;
mod export;
mod logs;
mod message;
mod options;
mod tracer;

pub use context::{SpanContext, TRACEPARENT};
pub use export::Exporter;
pub use logs::{logs_request, rejected_records};
pub use message::CONTENT_TYPE;
pub use options::TracingOptions;
pub use tracer::{ReviewSpan, SpanCounts, Tracer};
