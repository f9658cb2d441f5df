//! Restart policies of the pod and of its containers, and rules by exit code (KEP-5307, KEP-5532).

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, PodSpec};

use super::containers::word;
use crate::manifest::fault::{Findings, Kind};
use crate::manifest::path::At;

const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;

pub fn pod(spec: &PodSpec, at: &At, findings: &mut Findings) {
    word(spec.restart_policy.as_deref(), &["Always", "OnFailure", "Never"], &at.field("restartPolicy"), findings);
}

pub fn of(container: &Container, at: &At, findings: &mut Findings) {
    word(container.restart_policy.as_deref(), &["Always", "Never", "OnFailure"], &at.field("restartPolicy"), findings);
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    if !rules.is_empty() && container.restart_policy.is_none() {
        findings.required(&at.field("restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
    let at = at.field("restartPolicyRules");
    if rules.len() > MOST_RULES {
        findings.add(at.steps(), Kind::TooMany, Some(rules.len().to_string()), format!("must have at most {MOST_RULES} items"));
    }
    for (index, rule) in rules.iter().enumerate() {
        self::rule(rule, &at.index(index), findings);
    }
}

fn rule(rule: &ContainerRestartRule, at: &At, findings: &mut Findings) {
    word(Some(&rule.action), &["Restart", "RestartAllContainers"], &at.field("action"), findings);
    let at = at.field("exitCodes");
    let Some(codes) = &rule.exit_codes else {
        findings.required(&at, "must be specified");
        return;
    };
    word(Some(&codes.operator), &["In", "NotIn"], &at.field("operator"), findings);
    let count = codes.values.as_ref().map_or(0, Vec::len);
    if count > MOST_CODES {
        findings.add(at.field("values").steps(), Kind::TooMany, Some(count.to_string()), format!("must have at most {MOST_CODES} items"));
    }
}
