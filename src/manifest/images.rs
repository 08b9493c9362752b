//! The images of a pod template.

use serde_json::Value;

/// The images of all containers, init containers included, in order and once each.
pub fn images(template: &Value) -> Vec<String> {
    let lists = ["containers", "initContainers"].map(|list| &template["spec"][list]);
    let containers = lists.into_iter().filter_map(Value::as_array).flatten();
    let mut images: Vec<String> = containers.filter_map(|it| Some(it["image"].as_str()?.to_owned())).collect();
    images.sort_unstable();
    images.dedup();
    images
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_of_all_containers_are_named_once() {
        let container = |image: &str| json!({"name": "x", "image": image});
        let template = json!({"spec": {"containers": [container("b:2"), container("a:1")],
            "initContainers": [container("a:1"), {"name": "none"}]}});
        assert_eq!(images(&template), ["a:1", "b:2"]);
        assert_eq!(images(&json!({})), [""; 0]);
    }
}
