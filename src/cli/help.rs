//! What `--help` says after the options of a command: examples and exit codes.

pub(super) const SERVE_HELP: &str = "\
Without options the gate uses the embedded defaults: the baseline policies, the default runtime profiles, no \
grants, and a development certificate created under ./certs.

Endpoints: POST /mutate and POST /validate over HTTPS; GET /livez, /readyz and /metrics on the probe port.
Exit codes: 0 after a drained shutdown, 2 on an error, 130 when a second signal cut the drain short.";

pub(super) const EXPLAIN_HELP: &str = "\
Examples:
  wasmgate explain -f deployment.yaml --grants grants/
  kustomize build . | wasmgate explain -f - -o json
  wasmgate explain -f review.json --config gate.yaml
  grep 0c1f2e decisions.log | wasmgate explain -f - --config gate.yaml
An AdmissionReview is answered as `serve` answers it: by its user, operation and old object, first by the mutating webhook and then by \
the validating one. A record of a decision log is judged again by what it holds (`decisionLog.policyInput`); neither the cluster nor a registry is \
asked.
Exit codes: 0 nothing would be denied; 1 an object, or the pods of a template, would be denied; 2 a document \
could not be read or judged, or the command failed; 3 nothing would be denied, but an image could not be read or its program was not \
recognised, or a record has masked values that a bundle may read.";

pub(super) const SUGGEST_HELP: &str = "\
Examples:
  wasmgate suggest -f deployment.yaml --grants grants/ > grants/orders.yaml
  wasmgate suggest -n shop ghcr.io/myorg/orders:1.4
  wasmgate suggest --network-policy -f deployment.yaml --grants grants/ > policy.yaml
IMAGE is a name, since a grant names the images that it is for: neither `oci:FOLDER` nor a .wasm file. `--image-layouts` \
gives an image on disk a name.
`--network-policy` writes the NetworkPolicies for the grants that there are, instead of new grants; it cannot express \
grants by host name, and exits 1 if there are any, or if a grant by address does not admit the pods, since their runtime allows any host.
Exit codes: 0 everything would be admitted with the printed grants, if any; 1 a rule denies what no grant can allow; 2 an \
object could not be read, or the command failed; 3 nothing is denied, but an image could not be read or its program was not recognised.";

pub(super) const CHECK_HELP: &str = "\
Examples:
  wasmgate check --config config.yaml
  wasmgate check --grants grants/ --bundle our-rules.tar.gz
  wasmgate check grants/orders.yaml config.yaml
FILES are checked according to their kind: GateConfiguration, WasiGrant, ClusterWasiGrant, WasiException, and kinds with \
a pod spec.
All wrong fields are reported. In a list, and in `runtimes` and `enforcement` of a configuration, only the first syntax error is \
reported, and of a file that is not YAML the first one. Of a workload the kind, the pod template and the quantities are checked, \
not its other fields: the API server does that (`kubectl apply --dry-run=server`). Of a configuration among FILES the fields are \
checked, and not the folders, bundles and certificate that it names: give it with --config for these. Bundles are loaded, and not evaluated: try their rules \
with `explain --bundle`.
Exit codes: 0 nothing is wrong; 1 something is; 2 a file could not be read, nothing was given, or no document is of a kind \
that can be checked.";

pub(super) const INSPECT_HELP: &str = "\
Examples:
  wasmgate inspect ghcr.io/myorg/orders:1.4
  wasmgate inspect oci:./layout:1.4
  wasmgate inspect target/wasm32-wasip1/release/orders.wasm -o yaml
Exit codes: 0 the facts were printed; 2 the image or the file could not be read.";

pub(super) const POLICY_HELP: &str = "\
RULES is a folder with Rego in the package `wasmgate`, whose set `violations` says what is wrong with a pod. The Rego is \
parsed, tested and compiled by your own opa (--opa, or the one on PATH), and run by the engine of the gate.
A first rule, its tests and its bundle, step by step: docs/policy-authors.md.
Each command names its exit codes; 2 is always that the command failed.";

pub(super) const POLICY_NEW_HELP: &str = "\
Writes NAME.rego, NAME_test.rego and NAME_cases.yaml, with `_` for `-`, which pass `policy check` and `policy test` as they are. \
Write your own condition into the rule, and what it means into its message.
Example: wasmgate policy new our-registry && wasmgate policy test rules/ --watch
Exit codes: 0 the files were written; 2 they were not, since one is there already, for example.";

pub(super) const POLICY_CHECK_HELP: &str = "\
Types against the schema of `input`, strict mode, format, functions that do not run in the gate, names and messages that are empty or that no \
exception can name, constant patterns that cannot be used; and whether the gate loads what `opa build` makes of it and judges an ordinary pod by it. Where regal is on PATH or named with --regal, its errors are problems too: with your `.regal/config.yaml`, or \
else without its rules about entry points and folders.
Example: wasmgate policy check rules/
Exit codes: 0 nothing is wrong; 1 something is; 2 the command failed.";

pub(super) const POLICY_TEST_HELP: &str = "\
Runs the tests of `opa test`, and the cases in files named *_cases.yaml: each has an `input` or a `manifest`, and the \
`violations` that are expected, which the compiled rules must find on the gate's engine, and `opa eval` too:

  apiVersion: wasmgate.dev/v1alpha1
  kind: PolicyCases
  cases:
  - name: an image from elsewhere is refused
    manifest: testdata/pod.yaml
    violations: [{rule: our-registry, container: web, message: is not from}]

`rule` has to be equal, and so have `container`, `capability` and `action` if they are given; `message` is a part of the message. JSON and YAML \
that tests alone read, such as fixtures/pods.json as `data.fixtures`, is there for them and not in the bundle.
`--watch` shows within two seconds of a save what it changes. `--coverage` counts what the tests of `opa test` and the cases reach.
Examples:
  wasmgate policy test rules/ --junit report.xml
  wasmgate policy test rules/ --watch --image-layouts registry.example=layouts/
Exit codes: 0 all passed; 1 a test or a case failed; 2 the command failed, or there was nothing to run.";

pub(super) const POLICY_BUILD_HELP: &str = "\
Compiles RULES without their tests (`opa build --target wasm`), and writes the archive only if the gate loads it.
Example: wasmgate policy build rules/ --revision \"$(git rev-parse HEAD)\" --sequence \"$(date +%s)\" -f rules.tar.gz
Exit codes: 0 it was written; 2 it was not.";

pub(super) const POLICY_BENCH_HELP: &str = "\
Evaluates the cases of `policy test` one after the other on the compiled rules, and prints the times. What a review takes beside \
them is not in it.
Example: wasmgate policy bench rules/ --count 5000
Exit codes: 0 it was measured; 2 the command failed, or there was nothing to measure.";

pub(super) const POLICY_SIGN_HELP: &str = "\
Signs as `opa sign` does, with your own opa. The gate verifies it with the key of the same id under `policies.keys`. A former \
signature is replaced.
Example: wasmgate policy sign rules.tar.gz --key release.pem --algorithm ES256 --key-id release-2026
Exit codes: 0 it was signed; 2 it was not.";

pub(super) const POLICY_VERIFY_HELP: &str = "\
Every file has to have the digest that was signed, none may be missing, and none may have been added.
Example: wasmgate policy verify rules.tar.gz --key release.pub.pem --algorithm ES256 --key-id release-2026
Exit codes: 0 the gate takes the signature; 1 it does not; 2 the command failed.";

pub(super) const POLICY_PUSH_HELP: &str = "\
Pushes an archive that the gate loads, in the layout of opa. The gate takes it from `oci://REFERENCE` under `policies.bundles`.
Example: wasmgate policy push rules.tar.gz ghcr.io/myorg/rules:7 --docker-config ~/.docker/config.json
Exit codes: 0 it was pushed; 2 it was not.";

pub(super) const POLICY_PULL_HELP: &str = "\
Writes the archive as it was pushed. No signature is verified; `policy verify` does that.
Example: wasmgate policy pull ghcr.io/myorg/rules:7 -f rules.tar.gz
Exit codes: 0 it was written; 2 it was not.";

pub(super) const POLICY_CAPABILITIES_HELP: &str = "\
Example: wasmgate policy capabilities > capabilities.json && opa build --capabilities ./capabilities.json …
Exit codes: 0 it was printed; 2 on an error.";

pub(super) const COMPLETION_HELP: &str = "\
Example: wasmgate completion bash > /etc/bash_completion.d/wasmgate
Exit codes: 0 the script was printed; 2 on an error.";

pub(super) const MAN_HELP: &str = "\
Example: wasmgate man /usr/local/share/man/man1 && man wasmgate-scan
Exit codes: 0 the pages were written; 2 they were not.";

pub(super) const DIFF_HELP: &str = "\
Examples:
  wasmgate diff ghcr.io/myorg/orders:1.4 ghcr.io/myorg/orders:1.5
  wasmgate diff old/deployment.yaml new/deployment.yaml --grants grants/
  wasmgate diff -f deployment.yaml
  wasmgate diff main.wasm target/wasm32-wasip1/release/orders.wasm -o markdown >> pull-request.md
OLD and NEW are images, `oci:FOLDER[:TAG]` or Wasm files; or both are manifest files or folders, whose programs are paired \
by object and container. With -f the old side is the cluster: the objects of the same kinds and names, with its grants and RuntimeClasses. \
docs/pull-requests.md has recipes.
Exit codes: 0 nothing was added; 1 a capability, an interpreter or a denial was added; 2 the command failed; 3 nothing is \
known to be added, but an image of one side could not be read, or an object could not be judged.";

pub(super) const REPLAY_HELP: &str = "\
Examples:
  wasmgate replay decisions.log -c gate.yaml
  wasmgate replay decisions.log -c gate.yaml --bundle platform=new.tar.gz
  kubectl logs -n wasmgate-system deploy/wasmgate | wasmgate replay - -c gate.yaml -o json
Judges the decisions of a log that `decisionLog.policyInput: true` wrote once more, with the bundles, enforcement actions and \
exceptions that are given now; without --grants, by the exemptions that the record names, for what they exempted then. --bundle [NAME=]PLACE takes the place of the bundle of its name, or is added; it need not be \
signed. No cluster is asked, and a registry only for a bundle of `oci://`. Values are masked in a log: where the verdict depends on one, that is said.
Exit codes: 0 no decision would change; 1 one would; 2 the command failed, or there was nothing to replay; 3 no decision is known \
to change, but one cannot be decided, or may depend on a masked value.";

pub(super) const SCAN_HELP: &str = "\
Examples:
  wasmgate scan
  wasmgate scan -n shop --capability net.tcp.connect
  wasmgate scan -f manifests/ -o github
  wasmgate scan -o html > report.html
Reads the cluster of the current context, or files with -f. Nothing is changed. Pods are judged as they are and listed under their top owner; a template is judged as the pods that would \
be made of it. docs/scan.md lists the rights and the outputs.
Exit codes: 0 nothing would be denied; 1 a pod, or the pods of a template, would be denied; 2 the command failed; 3 nothing \
would be denied, but something could not be judged, such as an image that could not be read. With --rule or --capability only \
their findings count.";
