//! What every edit has to hold, over manifests in the many ways in which people write them.

use std::fmt::Write as _;

use super::*;
use crate::manifest::template_digest;

/// Manifests that are generated: enough for every pair of styles, and a second in all.
const MANIFESTS: u64 = 200;

/// A sequence of numbers that is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn coin(&mut self) -> bool {
        self.roll(2) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}

/// How one person writes.
struct Hand {
    indent: usize,
    flow_env: bool,
    comments: bool,
    crlf: bool,
    list: bool,
    dashes_inside: bool,
    anchors: bool,
    json: bool,
    newline_at_end: bool,
}

impl Hand {
    fn roll(dice: &mut Dice) -> Self {
        Self {
            indent: if dice.coin() { 2 } else { 4 },
            flow_env: dice.coin(),
            comments: dice.coin(),
            crlf: dice.roll(4) == 0,
            list: dice.roll(4) == 0,
            dashes_inside: dice.coin(),
            anchors: dice.roll(3) == 0,
            json: dice.roll(5) == 0,
            newline_at_end: dice.roll(4) != 0,
        }
    }
}

fn template(dice: &mut Dice) -> Value {
    let words = [
        "a", "on", "1.10", "it's", "x: y", "{}", "# no", " lead", "ü 🚀", "a, b", "-", "*a", "%", "012", "",
        "null",
    ];
    let script =
        ["one\n  \ntwo\n", "#!/bin/sh\nset -e\n\nif true; then\n  echo 'x'\nfi\n", "one", "tail\n\n", "a\n   \n"];
    let names = ["COLOR", "LEVEL", "MAX", "TZ", "DEBUG", "PATH_TO"];
    let mut env = Vec::new();
    for name in names {
        if dice.coin() {
            env.push(serde_json::json!({"name": name, "value": dice.pick::<str>(&words)}));
        }
    }
    let mut container = serde_json::json!({
        "name": "app",
        "image": format!("podinfo:3.1.{}", dice.roll(4)),
        "command": ["sh", "-c", dice.pick::<str>(&script)],
        "ports": [{"containerPort": 9898 + dice.roll(3)}],
    });
    if dice.roll(4) != 0 {
        container["env"] = Value::Array(env);
    }
    if dice.coin() {
        container["livenessProbe"] = serde_json::json!({"httpGet": {"path": "/healthz", "port": dice.roll(3)}});
        container["readinessProbe"] = container["livenessProbe"].clone();
    }
    let mut containers = vec![container];
    if dice.coin() {
        containers.push(serde_json::json!({"name": "side", "image": "side:1", "tty": true}));
    }
    serde_json::json!({"metadata": {"labels": {"app": "podinfo"}}, "spec": {"containers": containers}})
}

/// Writes a value as block YAML.
struct Pen<'a> {
    hand: &'a Hand,
    dice: &'a mut Dice,
    out: String,
    anchored: bool,
}

impl Pen<'_> {
    fn pad(&mut self, depth: usize) {
        self.out.push_str(&" ".repeat(depth));
    }

    fn value(&mut self, value: &Value, depth: usize, key: &str) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                if self.hand.anchors && key == "livenessProbe" {
                    self.out.push_str(" &probe");
                    self.anchored = true;
                }
                if self.hand.anchors && key == "readinessProbe" && self.anchored {
                    self.out.push_str(" *probe\n");
                    return;
                }
                self.out.push('\n');
                self.mapping(map, depth, false);
            }
            Value::Array(items) if !(items.is_empty() || key == "env" && self.hand.flow_env) => {
                self.out.push('\n');
                self.sequence(items, depth);
            }
            Value::String(text) if text.contains('\n') && self.dice.coin() => self.script(text, depth),
            scalar => writeln!(self.out, " {scalar}").unwrap(),
        }
    }

    fn script(&mut self, text: &str, depth: usize) {
        let chomp = if text.ends_with("\n\n") {
            "+"
        } else if text.ends_with('\n') {
            ""
        } else {
            "-"
        };
        writeln!(self.out, " |{chomp}").unwrap();
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            if !line.is_empty() {
                self.pad(depth);
            }
            self.out.push_str(line);
            self.out.push('\n');
        }
    }

    fn mapping(&mut self, map: &serde_json::Map<String, Value>, depth: usize, mut inline: bool) {
        for (key, value) in map {
            if !inline {
                if self.hand.comments && self.dice.roll(3) == 0 {
                    self.pad(depth);
                    writeln!(self.out, "# about {key}").unwrap();
                }
                self.pad(depth);
            }
            inline = false;
            write!(self.out, "{key}:").unwrap();
            let list = value.is_array() && !self.hand.dashes_inside;
            self.value(value, if list { depth } else { depth + self.hand.indent }, key);
        }
    }

    fn sequence(&mut self, items: &[Value], depth: usize) {
        for item in items {
            if self.hand.comments && self.dice.roll(3) == 0 {
                self.pad(depth);
                self.out.push_str("# an item\n");
            }
            self.pad(depth);
            match item {
                Value::Object(map) => {
                    self.out.push_str("- ");
                    self.mapping(map, depth + 2, true);
                }
                Value::String(text) if text.contains('\n') && self.dice.coin() => {
                    self.out.push('-');
                    self.script(text, depth + 2);
                }
                scalar => writeln!(self.out, "- {scalar}").unwrap(),
            }
        }
    }
}

fn written(dice: &mut Dice, hand: &Hand, template: &Value, replicas: u64) -> String {
    let deployment = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "podinfo", "namespace": "test"},
        "spec": {"replicas": replicas, "template": template}
    });
    let service = serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}});
    let mut all = vec![service, deployment];
    if dice.coin() {
        all.reverse();
    }
    if hand.json {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": all});
        return if dice.coin() { format!("{list:#}\n") } else { list.to_string() };
    }
    let mut pen = Pen { hand, dice, out: String::new(), anchored: false };
    if hand.list {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": all});
        pen.mapping(list.as_object().unwrap(), 0, false);
    } else {
        for object in &all {
            pen.out.push_str("---\n");
            pen.anchored = false;
            pen.mapping(object.as_object().unwrap(), 0, false);
        }
    }
    let mut text = pen.out;
    if !hand.newline_at_end && !text.ends_with("\n\n") {
        text.pop();
    }
    if hand.crlf { text.replace('\n', "\r\n") } else { text }
}

fn object() -> ObjectRef {
    ObjectRef {
        group: "apps".into(),
        kind: "Deployment".into(),
        namespace: Some("test".into()),
        name: "podinfo".into(),
    }
}

#[test]
fn a_rollback_edit_gives_the_promoted_digest_and_touches_only_its_bytes() {
    const TEMPLATE: [&str; 2] = ["spec", "template"];
    let read = |text: &str| value_at(text, &object(), &TEMPLATE);
    for seed in 0..MANIFESTS {
        let mut dice = Dice(seed);
        let (promoted_hand, tip_hand) = (Hand::roll(&mut dice), Hand::roll(&mut dice));
        let same_hand = dice.coin();
        let (good, bad) = (template(&mut dice), template(&mut dice));
        let promoted = written(&mut dice, &promoted_hand, &good, 2);
        let tip = written(&mut dice, if same_hand { &promoted_hand } else { &tip_hand }, &bad, 3);
        assert_eq!(read(&promoted), Some(good.clone()), "the generator is wrong\n{promoted}");
        let back = restore(&tip, &object(), &TEMPLATE, &promoted);
        let back = back.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{tip}\nto\n{promoted}"));
        let found = read(&back).unwrap_or_else(|| panic!("seed {seed}\n{back}"));
        assert_eq!(template_digest(&found), template_digest(&good), "seed {seed}\n{back}");
        // Before and behind the template nothing moves.
        let place = |text: &str| {
            let documents = tree::read(text).unwrap();
            let (_, found) = find("current", &documents, &object()).unwrap();
            descend(&found, &TEMPLATE).unwrap().node.at.range.clone()
        };
        let (before, after) = (place(&tip), place(&back));
        assert_eq!(tip[..before.start], back[..after.start], "seed {seed}");
        assert_eq!(
            tip[before.end..].trim_start(),
            back[after.end..].trim_start(),
            "seed {seed}\n{tip}\nbecame\n{back}"
        );
        if is_json(&tip) {
            assert!(is_json(&back), "seed {seed}\n{back}");
        }
        // Once it is done there is nothing left to do.
        assert_eq!(restore(&back, &object(), &TEMPLATE, &promoted).unwrap(), back, "seed {seed}");
    }
}
