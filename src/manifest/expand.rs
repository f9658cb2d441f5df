//! `$(NAME)` in environment values, commands and arguments.
//!
//! The rules of Kubernetes' `third_party/forked/golang/expansion`: `$(NAME)` becomes the variable, or stays as written
//! where there is none; `$$` is one `$`, so `$$(NAME)` is the literal `$(NAME)`, and a shell's own `$$` needs four; any
//! other `$` stays, and so does an opening without its closing parenthesis. What was put in is not read again.

/// Replaces every reference that `lookup` knows.
pub fn expand<'a>(text: &str, mut lookup: impl FnMut(&str) -> Option<&'a str>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        rest = match after.as_bytes().first() {
            Some(b'$') => {
                result.push('$');
                &after[1..]
            }
            Some(b'(') => match after.find(')') {
                Some(close) => {
                    match lookup(&after[1..close]) {
                        Some(value) => result.push_str(value),
                        None => result.push_str(&rest[dollar..dollar + 2 + close]),
                    }
                    &after[close + 1..]
                }
                None => {
                    result.push_str("$(");
                    &after[1..]
                }
            },
            _ => {
                result.push('$');
                after
            }
        };
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded(text: &str) -> String {
        expand(text, |name| match name {
            "A" => Some("one"),
            "B" => Some("$(A)"),
            "EMPTY" => Some(""),
            "SPACE D" => Some("spaced"),
            _ => None,
        })
    }

    #[test]
    fn references_are_replaced_once_and_the_rest_stays() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$(A)", "one"),
            ("x$(A)y$(A)z", "xoneyonez"),
            ("$(B)", "$(A)"),
            ("[$(EMPTY)]", "[]"),
            ("$(MISSING)", "$(MISSING)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$$$$(A)", "$$(A)"),
            ("echo $$", "echo $"),
            ("echo $$$$", "echo $$"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("$($(A)", "$($(A)"),
            ("$(A$(A)", "$(A$(A)"),
            ("$()", "$()"),
            ("$(SPACE D)", "spaced"),
            ("größe$(A)größe", "größeonegröße"),
        ] {
            assert_eq!(expanded(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn without_a_dollar_nothing_changes(text in "[^$]*") {
            prop_assert_eq!(expanded(&text), text);
        }

        #[test]
        fn doubled_dollars_protect_any_text(text in ".*") {
            prop_assert_eq!(expanded(&text.replace('$', "$$")), text);
        }
    }
}
