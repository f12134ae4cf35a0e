//! Where in a file an object and its images are written.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde_json::Value;

use crate::scan::model::ManifestPlace;

/// Most images of one object whose line is looked for.
const MOST_IMAGES: usize = 64;

/// The place of an object that begins on line `begin` (from 1), in a text whose next object begins on line `end`.
pub fn of(file: Option<&str>, lines: &[&str], begin: usize, end: usize, object: &Value) -> ManifestPlace {
    let mut wanted = Vec::new();
    collect(object, &mut wanted);
    let mut images = BTreeMap::new();
    let own = lines.iter().enumerate().take(end.saturating_sub(1)).skip(begin.saturating_sub(1));
    for (index, line) in own {
        for image in &wanted {
            if !images.contains_key(*image) && names(line, image) {
                images.insert((*image).to_owned(), index + 1);
            }
        }
    }
    ManifestPlace { file: file.map(str::to_owned), line: begin, images, template: None }
}

/// The template of a chart that the document which begins on this line was rendered from, by the comment that `helm template` writes
/// above it (`helm/helm:pkg/action/action.go`, `# Source: %s`): the name of the chart, and the path in its folder. The text may come
/// from elsewhere, so only a path below `folder` counts, and only one of a file.
pub fn template(lines: &[&str], begin: usize, folder: &Path) -> Option<String> {
    let above = lines.get(..begin.saturating_sub(1))?.iter().rev();
    let mut comments = above.take_while(|line| line.starts_with('#') || line.trim().is_empty());
    let source = comments.find_map(|line| line.strip_prefix("# Source: "))?.trim();
    let (_chart, rest) = source.split_once('/')?;
    // The folder of a chart has its name by convention; `helm template .` stands in it.
    let places = [source.to_owned(), rest.to_owned(), format!("charts/{source}"), format!("chart/{rest}")];
    places.into_iter().find(|place| {
        let below = Path::new(place).components().all(|part| matches!(part, Component::Normal(_)));
        below && folder.join(place).is_file()
    })
}

/// The images that an object names, in its order, at any depth.
fn collect<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("image" | "reference", Value::String(image)) if !image.is_empty() => {
                        if found.len() < MOST_IMAGES && !found.contains(&image.as_str()) {
                            found.push(image);
                        }
                    }
                    (_, value) => collect(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

/// Whether a line of YAML or JSON has the image as a whole value, and not as the beginning of another one.
fn names(line: &str, image: &str) -> bool {
    line.split_once(image).is_some_and(|(before, after)| {
        let ends = after.chars().next().is_none_or(|next| next.is_whitespace() || "\"',}]#".contains(next));
        let starts =
            before.chars().next_back().is_some_and(|last| last.is_whitespace() || "\"':".contains(last));
        starts && ends
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_found_on_its_line_within_its_own_document() {
        let text = "kind: Pod\nimage: a:1\n---\nkind: Pod\nspec:\n  - image: a:12\n  - {image: \"a:1\"}\n---\nimage: b\n";
        let lines: Vec<&str> = text.lines().collect();
        let object = json!({"spec": [{"image": "a:12"}, {"image": "a:1"}, {"image": "b"}]});
        let place = of(Some("x.yaml"), &lines, 4, 8, &object);
        assert_eq!(place.line, 4);
        let expected = [("a:1".to_owned(), 7), ("a:12".to_owned(), 6)];
        assert_eq!(place.images, expected.into());
    }

    #[test]
    fn the_template_of_a_chart_is_a_file_that_exists_below_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        for path in [
            "shop/here/templates/a.yaml",
            "shop/templates/b.yaml",
            "shop/charts/here/templates/c.yaml",
            "d.yaml",
        ] {
            write(path);
        }
        let shop = folder.path().join("shop");
        let of = |text: &str| template(&text.lines().collect::<Vec<_>>(), text.lines().count(), &shop);
        let source = |path: &str| of(&format!("---\n# Source: {path}\n# of the template\n\nkind: Pod\n"));
        assert_eq!(source("here/templates/a.yaml").as_deref(), Some("here/templates/a.yaml"));
        assert_eq!(source("here/templates/b.yaml").as_deref(), Some("templates/b.yaml"));
        assert_eq!(source("here/templates/c.yaml").as_deref(), Some("charts/here/templates/c.yaml"));
        for other in ["here/templates/none.yaml", "../d.yaml", "a/../../d.yaml", "/etc/hostname", "shop"] {
            assert_eq!(source(other), None, "{other}");
        }
        assert_eq!(of("# Source: here/templates/a.yaml\n---\nkind: Pod\n"), None, "of the document before");
    }

    #[test]
    fn an_image_is_not_a_part_of_another_name() {
        assert!(names("image: a:1", "a:1") && names("\"image\":\"a:1\",", "a:1"));
        assert!(!names("image: x/a:1", "a:1") && !names("image: a:1@sha256:00", "a:1"));
    }
}
