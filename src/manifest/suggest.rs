//! "Did you mean": the nearest known word, or the place where a right word belongs.

use super::support::Table;

/// The known word that a slip of the keyboard would make of `word`: other case, a letter missing, doubled, swapped.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    // A word of three letters is near to nearly everything of three letters.
    let most = (word.chars().count() / 3).clamp(1, 3);
    known
        .filter(|other| *other != word)
        .map(|other| (strsim::damerau_levenshtein(&lower, &other.to_lowercase()), other))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// What to say of a field that does not exist in the object `under` (a pattern as in the table: `spec.containers[]`).
pub fn for_field(table: &Table, under: &str, name: &str) -> Option<String> {
    if let Some(near) = nearest(name, table.fields(under)).filter(|near| near.eq_ignore_ascii_case(name)) {
        return Some(format!("did you mean {near:?}?"));
    }
    let homes = table.homes(name).into_iter().filter(|home| home != under && table.is_landmark(home));
    if let Some(home) = closest_home(under, homes) {
        return Some(format!("{name} belongs in {home}"));
    }
    nearest(name, table.fields(under)).map(|near| format!("did you mean {near:?}?"))
}

/// Of the objects that have the field, the one that the writer most likely meant: the shallowest, but a container's
/// before a volume's, since that is where people are when the indentation slips.
fn closest_home(under: &str, homes: impl Iterator<Item = String>) -> Option<String> {
    let shared = |home: &str| home.split('.').zip(under.split('.')).take_while(|(a, b)| a == b).count();
    homes.min_by_key(|home| (home.split('.').count(), usize::MAX - shared(home)))
}

#[cfg(test)]
mod tests {
    use super::super::support::{JOB, POD};
    use super::*;

    #[test]
    fn a_slip_finds_its_word() {
        for (wrong, right) in
            [("comand", "command"), ("Image", "image"), ("volumeMount", "volumeMounts"), ("imagePullpolicy", "imagePullPolicy"), ("agrs", "args")]
        {
            assert_eq!(nearest(wrong, POD.fields("spec.containers[]")), Some(right), "{wrong}");
        }
        assert_eq!(nearest("livenessProbeWithExtras", POD.fields("spec.containers[]")), None);
        assert_eq!(nearest("xyz", POD.fields("spec.containers[]")), None);
    }

    #[test]
    fn a_right_word_in_the_wrong_place_is_sent_home() {
        for (under, name, said) in [
            ("metadata", "restartPolicy", "restartPolicy belongs in spec"),
            ("spec", "image", "image belongs in spec.containers[]"),
            ("spec", "command", "command belongs in spec.containers[]"),
            ("spec.containers[]", "volumes", "volumes belongs in spec"),
            ("spec.containers[]", "containerPort", "containerPort belongs in spec.containers[].ports[]"),
            ("spec.containers[].securityContext", "fsGroup", "fsGroup belongs in spec.securityContext"),
            ("spec", "nodeselector", "did you mean \"nodeSelector\"?"),
            ("", "containers", "containers belongs in spec"),
        ] {
            assert_eq!(for_field(&POD, under, name).as_deref(), Some(said), "{name} under {under:?}");
        }
        for (under, name, said) in [
            ("spec", "containers", "containers belongs in spec.template.spec"),
            ("spec", "restartPolicy", "restartPolicy belongs in spec.template.spec"),
            ("spec.template", "containers", "containers belongs in spec.template.spec"),
            ("spec.template.spec", "backoffLimit", "backoffLimit belongs in spec"),
            ("spec.template.spec", "image", "image belongs in spec.template.spec.containers[]"),
            ("spec", "completion", "did you mean \"completions\"?"),
            ("spec.template.spec.containers[]", "comand", "did you mean \"command\"?"),
        ] {
            assert_eq!(for_field(&JOB, under, name).as_deref(), Some(said), "{name} under {under:?}");
        }
    }
}
