;; The outline of a component that answers HTTP, calls another host and stores values. It imports and exports the
;; interfaces of a Spin component, which is all that the gate reads. The functions are not Spin's, so it does not run.
(component
  (import "wasi:http/outgoing-handler@0.2.0" (instance (export "handle" (func (result u32)))))
  (import "fermyon:spin/key-value@2.0.0" (instance (export "open" (func (result u32)))))
  (core module $program
    (memory (export "memory") 1)
    (func (export "handle") (result i32) i32.const 0))
  (core instance $instance (instantiate $program))
  (func $handle (result u32) (canon lift (core func $instance "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
