//! What the object of a review takes in memory once it is parsed, counted from its bytes before that. A few bytes become kilobytes: an empty volume is a
//! `Volume`, which has a place for every kind of source.

use k8s_openapi::api::core::v1::{
    Container, EnvVar, EphemeralContainer, PodAffinityTerm, TopologySpreadConstraint, Volume, VolumeMount,
    VolumeProjection, WeightedPodAffinityTerm,
};
use memchr::memchr2;

use super::Kind;
use crate::text::{LIST_BYTES, OBJECT_BYTES, VALUE_BYTES};

/// Bytes of the largest elements of lists: containers and volumes.
const LARGE: usize = largest(&[size_of::<Container>(), size_of::<EphemeralContainer>(), size_of::<Volume>()]);

/// Bytes of the largest among the elements of all other lists.
const SMALL: usize = largest(&[
    size_of::<EnvVar>(),
    size_of::<PodAffinityTerm>(),
    size_of::<TopologySpreadConstraint>(),
    size_of::<VolumeMount>(),
    size_of::<VolumeProjection>(),
    size_of::<WeightedPodAffinityTerm>(),
]);

/// What the input of the rules says of an element, with its evidence.
pub(crate) const ENTRY: usize = 1536;

/// What the input of the rules says of a container: what its image asks for, as it is found and as text. It has some seven kilobytes of that as a rule.
pub(crate) const CONTAINER: usize = 32 << 10;

/// A map of texts, beside its texts: a leaf of its tree has space for eleven pairs of 48 bytes.
const MAP: usize = 560;

/// A further text in a list or a map of texts: half of a leaf's space is empty after it was split, and each text is an allocation.
const TEXT: usize = 144;

/// How often the text of an object is in memory: as it came, in what it is parsed to, changed, as the input of rules, and in the record.
const COPIES_OF_TEXT: usize = 6;

/// Texts up to this length are part of what is said of an element anyway.
const SHORT: usize = 256;

/// The name of a member whose text stands in the input of the rules once for each mount: the path of a folder of the node.
const PATH: &[u8] = b"path";

/// Deepest level whose kind is known. `serde_json` parses no value that is deeper.
const DEEPEST: usize = 128;

/// The most bytes that an object of a review takes while it is worked on, whether or not it is one of this kind.
pub fn parsed_bytes(object: &str, kind: Kind) -> usize {
    // A template is read as it is, with the defaults of its pods, and as it is planned. While a list grows it is there twice.
    let (typed, trees) = if kind.is_template() { (4, 3) } else { (2, 2) };
    Counts::of(object.as_bytes()).bytes(object.len(), typed, trees)
}

/// The most bytes that the object before an update takes, which is compared with the new one. No pod is planned as it was.
pub fn former_bytes(object: &str, kind: Kind) -> usize {
    let (typed, trees) = if kind.is_template() { (4, 3) } else { (2, 1) };
    Counts::of(object.as_bytes()).bytes(object.len(), typed, trees)
}

const fn largest(sizes: &[usize]) -> usize {
    match sizes {
        [] => 0,
        [first, rest @ ..] => {
            let other = largest(rest);
            if *first > other { *first } else { other }
        }
    }
}

/// How many values an object has of each kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// Objects in lists of containers.
    containers: usize,
    /// Those in lists of volumes.
    volumes: usize,
    /// Those in other lists.
    small: usize,
    /// Objects with members. An empty one allocates nothing.
    filled: usize,
    /// Those among them that are in no list, and may be maps of texts.
    maps: usize,
    lists: usize,
    /// Values after the first one of an object or a list.
    further: usize,
    /// Bytes of the longest path, if it is no short text.
    path: usize,
}

impl Counts {
    /// Counts in one pass. An object that is not valid JSON has any counts.
    fn of(object: &[u8]) -> Self {
        let mut scan = Scan::default();
        let mut left = object;
        while let Some((byte, rest)) = left.split_first() {
            left = if *byte == b'"' { scan.string(rest) } else { scan.sign(*byte, rest) };
        }
        scan.counts
    }

    fn bytes(&self, text: usize, typed: usize, trees: usize) -> usize {
        let elements = [self.containers, self.volumes, self.small].into_iter().fold(0, usize::saturating_add);
        let parts = [
            (text, COPIES_OF_TEXT),
            // Any element may be a mount.
            (self.path.saturating_mul(elements), COPIES_OF_TEXT),
            (self.containers, LARGE * typed + CONTAINER),
            (self.volumes, LARGE * typed + ENTRY),
            (self.small, SMALL * typed + ENTRY),
            (self.filled, OBJECT_BYTES * trees),
            (self.maps, MAP * typed),
            (self.lists, LIST_BYTES * trees),
            (self.further, VALUE_BYTES * trees + TEXT * typed),
        ];
        parts.into_iter().map(|(count, each)| count.saturating_mul(each)).fold(0, usize::saturating_add)
    }
}

/// What a value stands in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Level {
    #[default]
    Object,
    /// A list of anything else.
    List,
    Containers,
    Volumes,
}

#[derive(Debug)]
struct Scan<'o> {
    counts: Counts,
    levels: [Level; DEEPEST],
    depth: usize,
    /// The last string: where a list begins in an object, the name of its member.
    last: &'o [u8],
    /// Whether an object has just begun.
    is_new: bool,
    /// Whether that stands in a list.
    is_element: bool,
}

impl Default for Scan<'_> {
    fn default() -> Self {
        let levels = [Level::default(); DEEPEST];
        Self { counts: Counts::default(), levels, depth: 0, last: &[], is_new: false, is_element: false }
    }
}

impl<'o> Scan<'o> {
    /// Takes a byte outside of strings; returns what follows it.
    fn sign(&mut self, byte: u8, rest: &'o [u8]) -> &'o [u8] {
        match byte {
            b'{' => self.open_object(),
            b'[' => self.open_list(),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.is_new = false;
            }
            b',' => self.counts.further += 1,
            _ => {}
        }
        rest
    }

    fn open_object(&mut self) {
        let around = self.level();
        match around {
            Some(Level::Containers) => self.counts.containers += 1,
            Some(Level::Volumes) => self.counts.volumes += 1,
            Some(Level::List) => self.counts.small += 1,
            Some(Level::Object) | None => {}
        }
        self.is_element = !matches!(around, Some(Level::Object) | None);
        self.is_new = true;
        self.open(Level::Object);
    }

    fn open_list(&mut self) {
        self.counts.lists += 1;
        let level = match self.level() {
            // What stands in it is counted as what it stands in.
            Some(level @ (Level::List | Level::Containers | Level::Volumes)) => level,
            Some(Level::Object) => list_called(self.last),
            // The outermost value, or one that is too deep to be parsed. Its last string may be of any length, and no name of it.
            None => Level::List,
        };
        self.open(level);
    }

    fn open(&mut self, level: Level) {
        if let Some(place) = self.levels.get_mut(self.depth) {
            *place = level;
        }
        self.depth += 1;
    }

    fn level(&self) -> Option<Level> {
        self.levels.get(self.depth.checked_sub(1)?).copied()
    }

    /// Takes the string that has begun; returns what follows it.
    fn string(&mut self, bytes: &'o [u8]) -> &'o [u8] {
        if std::mem::take(&mut self.is_new) {
            self.counts.filled += 1;
            self.counts.maps += usize::from(!self.is_element);
        }
        let end = end_of_string(bytes);
        if end > SHORT && may_be_path(self.last) {
            self.counts.path = self.counts.path.max(end);
        }
        self.last = bytes.get(..end).unwrap_or(bytes);
        bytes.get(end + 1..).unwrap_or_default()
    }
}

/// Where the mark is that ends a string.
fn end_of_string(bytes: &[u8]) -> usize {
    let mut from = 0;
    while let Some(found) = bytes.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        let at = from + found;
        if bytes.get(at) == Some(&b'"') {
            return at;
        }
        // The mark behind a backslash ends nothing.
        from = at + 2;
    }
    bytes.len()
}

/// Whether the string before a text may be [`PATH`]. Each of its letters may be an escape of six.
fn may_be_path(name: &[u8]) -> bool {
    name == PATH || (name.len() <= 6 * PATH.len() && name.contains(&b'\\'))
}

/// What a list is that is the member of this name. A StatefulSet gets a volume for each claim template. A name with an escape may be any.
fn list_called(name: &[u8]) -> Level {
    match name {
        b"containers" | b"initContainers" | b"ephemeralContainers" => Level::Containers,
        b"volumes" | b"volumeClaimTemplates" => Level::Volumes,
        _ if name.contains(&b'\\') => Level::Containers,
        _ => Level::List,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        ContainerPort, ContainerResizePolicy, ContainerRestartRule, DownwardAPIVolumeFile, EnvFromSource,
        EvictionResponder, HTTPHeader, HostAlias, KeyToPath, LocalObjectReference, NodeSelectorRequirement,
        NodeSelectorTerm, PodDNSConfigOption, PodReadinessGate, PodResourceClaim, PodSchedulingGate,
        PreferredSchedulingTerm, ResourceClaim, Sysctl, Toleration, VolumeDevice,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelectorRequirement, OwnerReference};
    use serde_json::{Value, json};

    use super::*;
    use crate::workload;

    fn counted(text: &str) -> Counts {
        Counts::of(text.as_bytes())
    }

    #[test]
    fn values_are_counted_by_what_they_stand_in_and_texts_are_none() {
        let found = counted(r#"{"volumes":[{},{"name":"a,[{\"","b":["x"]}],"env":[{"a":{"b":1}}],"c":{}}"#);
        let wanted =
            Counts { containers: 0, volumes: 2, small: 1, filled: 4, maps: 2, lists: 3, further: 4, path: 0 };
        assert_eq!(found, wanted);
        assert_eq!(counted(""), Counts::default());
    }

    #[test]
    fn the_name_of_a_list_may_be_written_with_escapes_and_values_may_have_such_names() {
        assert_eq!(counted(r#"{"\u0076olumes" : [ {} ]}"#).containers, 1);
        assert_eq!(counted(r#"{"a":"volumes","b":[{}]}"#).small, 1);
        assert_eq!(counted(r#"{"volumes":[[{}],"x",[{}]]}"#).volumes, 2);
        assert_eq!(counted(r#"{"containers":{"a":[{}]}}"#).small, 1);
    }

    #[test]
    fn any_depth_is_counted_and_what_comes_after_it_as_without_it() {
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        let found = counted(&format!(r#"{{"a":{deep},"volumes":[{{}}]}}"#));
        assert_eq!((found.volumes, found.lists), (1, 1_001));
        assert_eq!(counted(&"]".repeat(9)), Counts::default());
    }

    /// All of them, as k8s-openapi has them below `PodSpec`, and what is read of metadata.
    #[test]
    fn no_element_of_another_list_is_larger_than_they_are_counted_for() {
        let sizes = [
            size_of::<ContainerPort>(),
            size_of::<ContainerResizePolicy>(),
            size_of::<ContainerRestartRule>(),
            size_of::<DownwardAPIVolumeFile>(),
            size_of::<EnvFromSource>(),
            size_of::<EvictionResponder>(),
            size_of::<HTTPHeader>(),
            size_of::<HostAlias>(),
            size_of::<KeyToPath>(),
            size_of::<LabelSelectorRequirement>(),
            size_of::<LocalObjectReference>(),
            size_of::<NodeSelectorRequirement>(),
            size_of::<NodeSelectorTerm>(),
            size_of::<OwnerReference>(),
            size_of::<PodDNSConfigOption>(),
            size_of::<PodReadinessGate>(),
            size_of::<PodResourceClaim>(),
            size_of::<PodSchedulingGate>(),
            size_of::<PreferredSchedulingTerm>(),
            size_of::<ResourceClaim>(),
            size_of::<Sysctl>(),
            size_of::<Toleration>(),
            size_of::<VolumeDevice>(),
        ];
        assert!(sizes.iter().all(|size| *size <= SMALL), "{sizes:?} {SMALL}");
        assert_eq!((SMALL.max(LARGE), TEXT.max(2 * size_of::<String>())), (LARGE, TEXT));
    }

    fn pod(spec: &Value) -> String {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": spec}).to_string()
    }

    /// A body of 254 KB that was once parsed to 70 MiB.
    #[test]
    fn a_pod_of_many_volumes_is_counted_for_at_least_what_it_is_parsed_to() {
        let volumes: Vec<Value> = vec![json!({"name": "a"}); 19_500];
        let text = pod(&json!({"containers": [], "volumes": volumes}));
        assert!(text.len() < 256 << 10, "{}", text.len());
        let workload = workload::read(&text, Kind::Pod, "shop").unwrap();
        let volumes = workload.spec.volumes.unwrap();
        assert_eq!(volumes.len(), 19_500);
        let held = volumes.capacity() * size_of::<Volume>();
        let counted = parsed_bytes(&text, Kind::Pod);
        assert!(held > 100 * text.len(), "{held}");
        assert!(counted >= held && counted < 4 * held, "{counted} {held}");
        assert!(parsed_bytes(&text, Kind::Deployment) > counted);
    }

    #[test]
    fn the_path_of_a_folder_of_the_node_counts_for_each_mount_and_no_other_text_does() {
        let (long, mounts) = ("/a".repeat(1_000), vec![json!({"name": "v", "mountPath": "/m"}); 1_000]);
        let volumes = json!([{"name": "v", "hostPath": {"path": long}}]);
        let text = pod(&json!({"containers": [{"volumeMounts": mounts}], "volumes": volumes}));
        let counted = parsed_bytes(&text, Kind::Pod);
        assert!(counted > COPIES_OF_TEXT * 1_000 * long.len(), "{counted}");
        let escaped = text.replace(r#""path""#, r#""\u0070\u0061\u0074\u0068""#);
        assert_ne!(text, escaped);
        assert!(parsed_bytes(&escaped, Kind::Pod) >= counted);
        let other = text.replace(r#""path""#, r#""type""#);
        assert!(parsed_bytes(&other, Kind::Pod) < counted / 2);
        assert_eq!(Counts::of(br#"{"path":"/srv","args":["path","b"]}"#).path, 0);
    }

    #[test]
    fn so_is_a_pod_of_many_containers_or_variables() {
        let many = |one: Value| Value::from(vec![one; 10_000]);
        let text = pod(&json!({"containers": many(json!({}))}));
        let containers = workload::read(&text, Kind::Pod, "shop").unwrap().spec.containers;
        let held = containers.capacity() * size_of::<Container>();
        assert!(parsed_bytes(&text, Kind::Pod) >= held, "{held}");
        let text = pod(&json!({"containers": [{"env": many(json!({"name": "a"}))}]}));
        let mut workload = workload::read(&text, Kind::Pod, "shop").unwrap();
        let variables = workload.spec.containers.remove(0).env.unwrap();
        let held = variables.capacity() * size_of::<EnvVar>();
        assert!(parsed_bytes(&text, Kind::Pod) >= held, "{held}");
    }

    #[test]
    fn an_ordinary_pod_is_counted_for_some_hundred_kilobytes_and_a_large_text_for_its_copies() {
        let review = include_str!("../../manifests/samples/reviews/orders-everywhere.mutated.json");
        let review: Value = serde_json::from_str(review).unwrap();
        let counted = parsed_bytes(&review["request"]["object"].to_string(), Kind::Pod);
        assert!((16 << 10..512 << 10).contains(&counted), "{counted}");
        let text = json!({"metadata": {"annotations": {"a": "x".repeat(3 << 20)}}}).to_string();
        let counted = parsed_bytes(&text, Kind::Pod);
        assert!(counted < 20 << 20, "{counted}");
    }

    #[test]
    fn the_object_before_an_update_is_counted_for_no_more_than_the_new_one() {
        let text = pod(&json!({"containers": [{"name": "app", "env": [{"name": "A"}]}]}));
        for kind in [Kind::Pod, Kind::Deployment] {
            let (former, new) = (former_bytes(&text, kind), parsed_bytes(&text, kind));
            assert!(former > 0 && former <= new, "{former} {new}");
        }
    }
}
