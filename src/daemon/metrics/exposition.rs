//! The KPL's metrics as Prometheus reads them: sums and counts since the start.
//!
//! What CloudWatch has once for each prefix of its dimensions is here once: a value has the labels of all that is known of
//! it, and what is coarser is a sum over them.

use super::{ERROR_CODE, Metrics, Name, Node, Pair, SHARD, STREAM, Stat, Unit};
use crate::metrics::prometheus::{Exposition, Kind};

impl Metrics {
    pub fn expose(&self, text: &mut Exposition) {
        let roots = self.roots.lock().expect("no panic while held");
        for (name, root) in roots.iter() {
            let (family, scale) = family_of(*name);
            let help = format!("{} of the KPL, since the start.", name.as_str());
            text.family(&family, Kind::Summary, &help);
            let (sum, count) = (format!("{family}_sum"), format!("{family}_count"));
            root.visit_own(&mut Vec::new(), &mut |path, own| {
                let labels: Vec<_> = path.iter().map(label_of).collect();
                let labels: Vec<_> = labels.iter().map(|(k, v)| (&**k, &**v)).collect();
                text.sample(&sum, &labels, own.sum * scale);
                text.sample(&count, &labels, own.count);
            });
        }
    }
}

/// In base units, and how many of its own make one.
fn family_of(name: Name) -> (String, f64) {
    let mut family = String::from("kpl");
    for c in name.as_str().chars() {
        if c.is_ascii_uppercase() {
            family.push('_');
        }
        family.push(c.to_ascii_lowercase());
    }
    let (unit, scale) = match name.unit() {
        Unit::Count => ("", 1.0),
        Unit::Bytes => ("_bytes", 1.0),
        Unit::Milliseconds => ("_seconds", 0.001),
    };
    family.push_str(unit);
    (family, scale)
}

fn label_of((key, value): &Pair) -> (String, &str) {
    let label = match &**key {
        STREAM => "stream".to_owned(),
        SHARD => "shard".to_owned(),
        ERROR_CODE => "error_code".to_owned(),
        // Another's own: any characters.
        other => {
            let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            format!("dimension_{}", other.chars().map(word).collect::<String>())
        }
    };
    (label, value)
}

impl Node {
    /// What was put for this one and none below it.
    fn visit_own(&self, path: &mut Vec<Pair>, seen: &mut impl FnMut(&[Pair], Stat)) {
        let mut own = self.series.lifetime();
        for node in self.below.values() {
            let below = node.series.lifetime();
            own.count -= below.count;
            own.sum -= below.sum;
        }
        if own.count > 0.0 {
            seen(path, own);
        }
        for (pair, node) in &self.below {
            path.push(pair.clone());
            node.visit_own(path, seen);
            path.pop();
        }
    }
}
