//! One row per rule: a piece of a manifest in, the lines of its faults out.

use minipod::manifest;

/// A pod with these lines in its first container (indented by four) and these in its spec (by two).
fn pod(container: &str, spec: &str) -> String {
    let indent = |text: &str, by: &str| text.lines().map(|line| format!("{by}{line}\n")).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: app\n    image: nginx:1\n{}{}",
        indent(container, "    "),
        indent(spec, "  ")
    )
}

fn lines(text: &str) -> Vec<String> {
    manifest::examine(text, "f").1.lines()
}

#[track_caller]
fn expect(text: &str, expected: &[&str]) {
    let found = lines(text);
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(|(line, part)| line.contains(part)),
        "{text}\nfound {found:#?}\nexpected {expected:#?}"
    );
}

fn in_container(rows: &[(&str, &[&str])]) {
    rows.iter().for_each(|(yaml, expected)| expect(&pod(yaml, ""), expected));
}

fn in_spec(rows: &[(&str, &[&str])]) {
    rows.iter().for_each(|(yaml, expected)| expect(&pod("", yaml), expected));
}

#[test]
fn a_sound_pod_has_no_fault() {
    expect(&pod("command: [sleep, '1']\nworkingDir: /\ntty: true", "restartPolicy: Never\nhostname: h\nshareProcessNamespace: true"), &[]);
}

#[test]
fn a_field_that_does_not_exist_is_told_with_what_was_meant() {
    in_container(&[
        ("comand: [a]", &[r#"f:9:5: spec.containers[0].comand: unknown field; did you mean "command"?"#]),
        ("Image: a", &[r#"f:9:5: spec.containers[0].Image: unknown field; did you mean "image"?"#]),
        ("volumes: []", &["f:9:5: spec.containers[0].volumes: unknown field; volumes belongs in spec"]),
        (
            "ports: [{port: 80}]",
            &[r#"f:9:13: spec.containers[0].ports[0].containerPort: Required value"#, "f:9:14: spec.containers[0].ports[0].port: unknown field"],
        ),
        ("securityContext: {fsGroup: 1}", &["fsGroup: unknown field; fsGroup belongs in spec.securityContext"]),
        ("zzz: 1", &["f:9:5: spec.containers[0].zzz: unknown field"]),
    ]);
    in_spec(&[
        ("nodeselector: {}", &[r#"f:9:3: spec.nodeselector: unknown field; did you mean "nodeSelector"?"#]),
        ("command: [a]", &["f:9:3: spec.command: unknown field; command belongs in spec.containers[]"]),
    ]);
    expect(
        &pod("", "").replace("name: web", "name: web\n  restartPolicy: Never"),
        &["f:5:3: metadata.restartPolicy: unknown field; restartPolicy belongs in spec"],
    );
}

#[test]
fn every_value_of_a_wrong_type_is_told_and_nothing_that_follows_from_it() {
    in_container(&[
        (
            "env: [{name: A, value: yes}, {name: B, value: 1}]",
            &[
                "f:9:28: spec.containers[0].env[0].value: wrong type: true: must be a string, not a boolean",
                "f:9:51: spec.containers[0].env[1].value: wrong type: 1: must be a string, not a number",
            ],
        ),
        ("command: sh", &["f:9:14: spec.containers[0].command: wrong type: \"sh\": must be a list, not a string"]),
        ("command: [1, a, 2]", &["command[0]: wrong type: 1", "command[2]: wrong type: 2"]),
        ("ports: [{containerPort: eighty}]", &["containerPort: wrong type: \"eighty\": must be a whole number, not a string"]),
        ("ports: [{containerPort: 80.5}]", &["containerPort: wrong type: 80.5: must be a whole number"]),
        ("ports: [{containerPort: 99999999999}]", &["containerPort: wrong type: 99999999999: must be a whole number"]),
        ("stdin: 'true'", &["stdin: wrong type: \"true\": must be a boolean, not a string"]),
        ("resources: {limits: {cpu: [1]}}", &["limits.cpu: wrong type"]),
    ]);
    in_spec(&[
        ("volumes: {}", &["f:9:3: spec.volumes: wrong type: must be a list, not a mapping"]),
        ("initContainers: [a]", &["initContainers[0]: wrong type: \"a\": must be a mapping (Container), not a string"]),
    ]);
    expect("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: 5", &["f:4:7: spec: wrong type: 5"]);
}

#[test]
fn a_key_that_stands_twice_is_told_where_it_stands_again() {
    in_container(&[("image: b\nimage: c", &["f:9:5: spec.containers[0].image: duplicate field", "f:10:5: spec.containers[0].image: duplicate field"])]);
}

#[test]
fn containers_need_names_and_images() {
    expect("apiVersion: v1\nkind: Pod\nmetadata: {name: a}", &["spec.containers: Required value"]);
    expect("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}", &["f:4:8: spec.containers: Required value"]);
    expect(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {}\n  - {name: null, image: ' b'}\n",
        &[
            "f:6:5: spec.containers[0].name: Required value",
            "f:6:5: spec.containers[0].image: Required value",
            "f:7:6: spec.containers[1].name: Required value",
            "f:7:25: spec.containers[1].image: Invalid value: \" b\": must not have leading or trailing whitespace",
        ],
    );
    in_spec(&[
        ("initContainers: [{name: app, image: b}]", &["f:9:27: spec.initContainers[0].name: Duplicate value: \"app\""]),
        ("initContainers: [{name: A_b, image: b}]", &["spec.initContainers[0].name: Invalid value: \"A_b\": a lowercase RFC 1123 label must consist of"]),
    ]);
    in_container(&[
        (
            "imagePullPolicy: always",
            &["imagePullPolicy: Unsupported value: \"always\": supported values: \"Always\", \"IfNotPresent\", \"Never\"; did you mean \"Always\"?"],
        ),
        ("terminationMessagePolicy: Log", &["terminationMessagePolicy: Unsupported value: \"Log\": supported values: \"File\", \"FallbackToLogsOnError\""]),
    ]);
}

#[test]
fn metadata_follows_the_rules_of_names() {
    let with = |metadata: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec: {{containers: [{{name: a, image: b}}]}}");
    for (metadata, expected) in [
        ("{}", vec!["metadata.name: Required value: name or generateName is required"]),
        ("{generateName: a-}", vec![]),
        ("{generateName: A-}", vec!["metadata.generateName: Invalid value: \"A-\""]),
        ("{name: a.b-c}", vec![]),
        ("{name: a_b}", vec!["f:3:18: metadata.name: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain must"]),
        ("{name: a, namespace: a.b}", vec!["metadata.namespace: Invalid value: \"a.b\": must not contain dots"]),
        (
            "{name: a, labels: {'-x': a, y: '$Z', z: ''}}",
            vec!["metadata.labels: Invalid value: \"-x\": name part must consist of", "f:3:42: metadata.labels: Invalid value: \"$Z\": a valid label must be"],
        ),
        ("{name: a, annotations: {'a/b/c': x, Big.com/X: 'any text'}}", vec!["metadata.annotations: Invalid value: \"a/b/c\": a qualified name"]),
        ("{name: a, uid: x, creationTimestamp: null, resourceVersion: '1', managedFields: []}", vec![]),
    ] {
        expect(&with(metadata), &expected);
    }
    let long = "x".repeat(254);
    expect(&with(&format!("{{name: {long}}}")), &["must be no more than 253 characters"]);
}

#[test]
fn ports_follow_their_rules() {
    in_container(&[
        ("ports: [{containerPort: 70000}]", &["ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"]),
        ("ports: [{name: http}]", &["ports[0].containerPort: Required value"]),
        (
            "ports: [{containerPort: 1, name: HTTP}]",
            &[
                "ports[0].name: Invalid value: \"HTTP\": must contain only alpha-numeric",
                "ports[0].name: Invalid value: \"HTTP\": must contain at least one letter",
            ],
        ),
        ("ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]", &["ports[1].name: Duplicate value: \"a\""]),
        (
            "ports: [{containerPort: 1, protocol: tcp}]",
            &["ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"; did you mean \"TCP\"?"],
        ),
        ("ports: [{containerPort: 1, hostPort: 8080}]", &[]),
        ("ports: [{containerPort: 1, hostPort: 70000}]", &["ports[0].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive"]),
    ]);
    expect(&pod("ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81}]", "hostNetwork: true"), &[]);
    expect(
        &pod("ports: [{containerPort: 80, hostPort: 81}]", "hostNetwork: true"),
        &["ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"],
    );
    expect(
        &pod("ports: [{containerPort: 80}, {containerPort: 80}]", "hostNetwork: true"),
        &["f:9:34: spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""],
    );
}

#[test]
fn environment_names_may_be_any_printable_word() {
    in_container(&[
        ("env: [{name: my.var-1 x, value: a}]", &[]),
        ("env: [{value: a}]", &["env[0].name: Required value"]),
        ("env: [{name: a=b}]", &["env[0].name: Invalid value: \"a=b\": a valid environment variable name must"]),
        (
            "env: [{name: a, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
            &["env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"],
        ),
    ]);
}

#[test]
fn volumes_and_mounts_follow_their_rules() {
    in_container(&[
        ("volumeMounts: [{name: v, mountPath: /x}]", &["f:9:27: spec.containers[0].volumeMounts[0].name: Not found: \"v\""]),
        ("volumeMounts: [{name: v}]", &["volumeMounts[0].mountPath: Required value", "volumeMounts[0].name: Not found: \"v\""]),
    ]);
    let mounts = |mounts: &str, expected: &[&str]| {
        expect(&pod(&format!("volumeMounts: {mounts}"), "volumes: [{name: v}, {name: h, hostPath: {path: /srv, type: Directory}}]"), expected)
    };
    mounts("[{name: v, mountPath: /x}, {name: h, mountPath: /y, readOnly: true, subPath: a/b}]", &[]);
    mounts("[{name: v, mountPath: /x}, {name: h, mountPath: /x}]", &["volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique"]);
    mounts("[{name: v, mountPath: /x, subPath: /a}]", &["subPath: Invalid value: \"/a\": must be a relative path"]);
    mounts("[{name: v, mountPath: /x, subPath: a/../..}]", &["subPath: Invalid value: \"a/../..\": must not contain '..'"]);
    mounts("[{name: v, mountPath: /x, subPath: a, subPathExpr: b}]", &["subPathExpr: Invalid value: \"b\": subPathExpr and subPath are mutually exclusive"]);
    mounts("[{name: v, mountPath: /x, mountPropagation: None, recursiveReadOnly: Disabled}]", &[]);
    in_spec(&[
        ("volumes: [{name: V}]", &["volumes[0].name: Invalid value: \"V\""]),
        ("volumes: [{}]", &["volumes[0].name: Required value"]),
        ("volumes: [{name: v}, {name: v}]", &["volumes[1].name: Duplicate value: \"v\""]),
        ("volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}]", &["volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]),
        ("volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]", &[]),
        (
            "volumes: [{name: v, emptyDir: {medium: HugePages}}]",
            &["emptyDir.medium: Invalid value: \"HugePages\": medium HugePages: hugePages storage requested, but there is no resource request for huge pages"],
        ),
        (
            "volumes: [{name: v, emptyDir: {medium: Disk}}]",
            &["emptyDir.medium: Unsupported value: \"Disk\": supported values: \"HugePages\", \"HugePages-\", \"Memory\""],
        ),
        ("volumes: [{name: v, emptyDir: {sizeLimit: 1Mb}}]", &["emptyDir.sizeLimit: Invalid value: \"1Mb\": quantities must match"]),
        ("volumes: [{name: v, hostPath: {}}]", &["hostPath.path: Required value"]),
        (
            "volumes: [{name: v, hostPath: {path: /a/../b, type: Dir}}]",
            &["hostPath.path: Invalid value: \"/a/../b\": must not contain '..'", "hostPath.type: Unsupported value: \"Dir\""],
        ),
        (
            "volumes: [{name: v, image: {reference: i}}, {name: w, nfs: {server: s, path: /}}]",
            &["spec.volumes[1].nfs: network and cloud volumes are not supported"],
        ),
    ]);
}

#[test]
fn resources_follow_their_rules() {
    in_container(&[
        ("resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}", &[]),
        (
            "resources: {limits: {cpu: 1}, requests: {cpu: 2}}",
            &["f:9:51: spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
        ),
        ("resources: {limits: {cpu: -1}}", &["requests[cpu]: Invalid value: \"-1\"", "limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"]),
        ("resources: {requests: {memory: 1Gb}}", &["requests[memory]: Invalid value: \"1Gb\": quantities must match the regular expression"]),
        ("resources: {limits: {ephemeral-storage: 1Gi}}", &[]),
        ("resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: memory, restartPolicy: RestartContainer}]", &[]),
        (
            "resizePolicy: [{resourceName: pids, restartPolicy: Perhaps}]",
            &[
                "resizePolicy: Unsupported value: \"pids\": supported values: \"cpu\", \"memory\"",
                "resizePolicy: Unsupported value: \"Perhaps\": supported values: \"NotRequired\", \"RestartContainer\"",
            ],
        ),
        (
            "restartPolicy: Never\nresizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]",
            &["resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when pod `restartPolicy` is 'Never'"],
        ),
        ("resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi, hugepages-1Gi: 0}}", &[]),
        (
            "resources: {limits: {cpu: 1, hugepages-2Mi: 3Mi}}",
            &[
                "requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                "limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            ],
        ),
        (
            "resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi}, requests: {hugepages-2Mi: 2Mi}}",
            &["requests: Invalid value: \"2Mi\": must be equal to hugepages-2Mi limit of 4Mi"],
        ),
        ("resources: {requests: {cpu: 1, hugepages-2Mi: 2Mi}}", &["resources.limits: Required value: Limit must be set for non overcommitable resources"]),
        (
            "resources: {requests: {pids: 5}}",
            &[
                "requests.pids: only cpu, memory and huge pages are supported",
                "requests[pids]: Invalid value: \"pids\": must be a standard resource type or fully qualified",
                "requests[pids]: Invalid value: \"pids\": must be a standard resource for containers",
            ],
        ),
    ]);
}

#[test]
fn a_volume_of_huge_pages_has_the_size_that_the_pod_asks_for() {
    let volume = |medium: &str| format!("volumes: [{{name: v, emptyDir: {{medium: {medium}}}}}]");
    let (one, two) = ("resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi}}", "resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi, hugepages-1Gi: 1Gi}}");
    expect(&pod(one, &volume("HugePages")), &[]);
    expect(&pod(two, &volume("HugePages-1Gi")), &[]);
    expect(&pod(two, &volume("HugePages")), &["emptyDir.medium: Invalid value: \"HugePages\": medium: HugePages can't be used if container requests multiple"]);
    expect(&pod(one, &volume("HugePages-1Gi")), &["emptyDir.medium: Invalid value: \"HugePages-1Gi\": medium HugePages-1Gi: hugePages storage requested, but"]);
}

#[test]
fn containers_fit_into_the_pod_as_a_whole() {
    let container = "resources: {requests: {cpu: 500m, memory: 1Gi}, limits: {cpu: 2}}";
    expect(&pod(container, "resources: {limits: {cpu: 2, memory: 2Gi}}"), &[]);
    expect(
        &pod(container, "resources: {requests: {cpu: 100m}, limits: {cpu: 1}}"),
        &[
            "spec.containers[0].resources.limits[cpu]: Invalid value: \"2\": must be less than or equal to pod limits of 1",
            "spec.resources.requests[cpu]: Invalid value: \"100m\": must be greater than or equal to aggregate container requests of 500m",
        ],
    );
    let pages = |size: &str| format!("resources: {{limits: {{cpu: 1, hugepages-2Mi: {size}}}}}");
    expect(&pod(&pages("4Mi"), &pages("8Mi")), &[]);
    expect(
        &pod(&pages("4Mi"), &pages("2Mi")),
        &[
            "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"4Mi\": must be less than or equal to pod limits of 2Mi",
            "spec.resources.requests[hugepages-2Mi]: Invalid value: \"2Mi\": must be greater than or equal to aggregate container requests of 4Mi",
        ],
    );
    expect(
        &pod("", "resources: {requests: {cpu: 3}, limits: {cpu: 2}}"),
        &["spec.resources.requests: Invalid value: \"3\": must be less than or equal to cpu limit of 2"],
    );
    expect(
        &pod("", "resources: {limits: {pids: 5}}"),
        &[
            "spec.resources.limits.pids: only cpu, memory and huge pages are supported",
            "spec.resources.limits[pids]: Invalid value: \"pids\": must be a standard resource type or fully qualified",
        ],
    );
}

#[test]
fn restart_policies_and_rules_follow_their_rules() {
    in_spec(&[(
        "restartPolicy: never",
        &["f:9:18: spec.restartPolicy: Unsupported value: \"never\": supported values: \"Always\", \"OnFailure\", \"Never\"; did you mean \"Never\"?"],
    )]);
    in_container(&[
        ("restartPolicy: Never\nrestartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]", &[]),
        (
            "restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]",
            &["spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used"],
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{action: Stop}]",
            &["exitCodes: Required value: must be specified", "action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\""],
        ),
        ("restartPolicy: Never\nrestartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: Is}}]", &["operator: Unsupported value: \"Is\""]),
    ]);
    in_spec(&[
        (
            "initContainers: [{name: i, image: b, livenessProbe: {exec: {command: [a]}}}]",
            &["initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"],
        ),
        ("initContainers: [{name: i, image: b, restartPolicy: Always}]", &[]),
    ]);
}

#[test]
fn probes_and_hooks_follow_their_rules() {
    let sleep = "sleep.seconds: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)";
    in_container(&[
        ("readinessProbe: {httpGet: {path: /, port: web}, periodSeconds: 1, successThreshold: 2}", &[]),
        ("livenessProbe: {grpc: {port: 1, service: s}, terminationGracePeriodSeconds: 5}", &[]),
        ("lifecycle: {postStart: {sleep: {seconds: 0}}, preStop: {httpGet: {port: 80}}}", &[]),
        ("livenessProbe: {periodSeconds: 1}", &["spec.containers[0].livenessProbe: Required value: must specify a handler type"]),
        ("startupProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}", &["startupProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]),
        ("readinessProbe: {exec: {command: []}}", &["readinessProbe.exec.command: Required value"]),
        ("livenessProbe: {exec: {command: [a]}, successThreshold: 2}", &["livenessProbe.successThreshold: Invalid value: 2: must be 1"]),
        ("startupProbe: {exec: {command: [a]}, failureThreshold: -1}", &["failureThreshold: Invalid value: -1: must be greater than or equal to 0"]),
        (
            "livenessProbe: {exec: {command: [a]}, terminationGracePeriodSeconds: 0}",
            &["terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0"],
        ),
        (
            "readinessProbe: {exec: {command: [a]}, terminationGracePeriodSeconds: 1}",
            &["terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes"],
        ),
        ("livenessProbe: {tcpSocket: {port: 70000}}", &["tcpSocket.port: Invalid value: 70000: must be between 1 and 65535, inclusive"]),
        ("livenessProbe: {tcpSocket: {port: a_b}}", &["tcpSocket.port: Invalid value: \"a_b\""]),
        ("livenessProbe: {httpGet: {port: 1, scheme: FTP}}", &["httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\""]),
        (
            "livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: a b, value: c}]}}",
            &["httpHeaders[0].name: Invalid value: \"a b\": a valid HTTP header must consist of"],
        ),
        ("livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: a, value: \"b\\r\\nc: d\"}]}}", &["httpHeaders[0].value: Invalid value"]),
        ("lifecycle: {preStop: {sleep: {seconds: 31}}}", &[sleep]),
        ("lifecycle: {preStop: {tcpSocket: {port: 1}}}", &["preStop.tcpSocket: no kubelet can run it"]),
    ]);
}

#[test]
fn host_names_and_dns_follow_their_rules() {
    in_spec(&[
        ("hostname: a.b", &["spec.hostname: Invalid value: \"a.b\": must not contain dots"]),
        ("subdomain: -a", &["spec.subdomain: Invalid value: \"-a\""]),
        (
            "hostAliases: [{ip: 1.2.3, hostnames: [a.b, A]}]",
            &["hostAliases[0].ip: Invalid value: \"1.2.3\": must be a valid IP address", "hostAliases[0].hostnames[1]: Invalid value: \"A\""],
        ),
        ("dnsPolicy: Cluster", &["spec.dnsPolicy: Unsupported value: \"Cluster\": supported values: \"ClusterFirstWithHostNet\""]),
        ("dnsPolicy: None", &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]),
        (
            "dnsPolicy: None\ndnsConfig: {searches: [a.b., _x.y]}",
            &["spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"],
        ),
        (
            "dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, x]}",
            &[
                "nameservers: Invalid value: [\"1.1.1.1\", \"1.1.1.2\", \"1.1.1.3\", \"x\"]: must not have more than 3 nameservers",
                "nameservers[3]: Invalid value: \"x\"",
            ],
        ),
        ("dnsConfig: {options: [{value: a}]}", &["options[0].name: Required value: must not be empty"]),
    ]);
}

#[test]
fn seconds_and_ids_stay_in_range() {
    in_spec(&[
        ("activeDeadlineSeconds: 0", &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"]),
        ("terminationGracePeriodSeconds: -1", &[]),
        (
            "securityContext: {runAsUser: -1, supplementalGroups: [5000000000]}",
            &["securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive", "supplementalGroups[0]: Invalid value: 5000000000"],
        ),
    ]);
    in_container(&[(
        "securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [SYS_ADMIN]}}",
        &[
            "securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"capabilities\":{\"add\":[\"SYS_ADMIN\"]}}: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        ],
    )]);
}

#[test]
fn what_is_not_done_is_refused_before_anything_starts_but_not_its_default() {
    in_spec(&[
        ("hostPID: true\nhostIPC: true", &[]),
        ("hostnameOverride: a.b", &[]),
        (
            "hostnameOverride: A\nhostNetwork: true",
            &["Forbidden: may not be set when `hostNetwork` is true", "hostnameOverride: Invalid value: \"A\": a lowercase RFC 1123"],
        ),
        ("hostUsers: false", &[]),
        ("volumes: [{name: i, image: {reference: busybox}}]", &[]),
        (
            "volumes: [{name: i, image: {pullPolicy: Sometimes}}]",
            &["spec.volumes[0].image.reference: Required", "spec.volumes[0].image.pullPolicy: Unsupported"],
        ),
        ("hostPID: false\nhostIPC: false\nhostUsers: true\nos: {name: linux}\nephemeralContainers: []", &[]),
        ("os: {name: windows}", &["spec.os.name: only linux runs here"]),
        ("schedulingGates: [{name: a}]", &["spec.schedulingGates: nothing here would ever open it"]),
        ("securityContext: {runAsNonRoot: true, fsGroup: 1, sysctls: [{name: a.b, value: c}], seccompProfile: {type: RuntimeDefault}}", &[]),
        ("securityContext: {runAsNonRoot: false, seccompProfile: {type: Unconfined}}", &[]),
    ]);
    in_container(&[
        ("securityContext: {privileged: true, procMount: Default}", &[]),
        ("securityContext: {seLinuxOptions: {level: s0}}", &["seLinuxOptions: minipod gives no SELinux labels"]),
        ("securityContext: {privileged: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}", &[]),
        ("envFrom: [{configMapRef: {name: a}}]", &[]),
        ("readinessProbe: null\nenvFrom: []\nlifecycle:", &[]),
    ]);
}

#[test]
fn a_stop_signal_is_one_of_the_operating_system_that_is_named() {
    let with = |signal: &str, os: &str| pod(&format!("lifecycle: {{stopSignal: {signal}}}"), os);
    let linux = "os: {name: linux}";
    expect(&with("SIGUSR1", ""), &["spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"]);
    for signal in ["SIGUSR1", "SIGKILL", "SIGPOLL", "SIGRTMIN", "SIGRTMIN+15", "SIGRTMAX-14", "SIGRTMAX"] {
        expect(&with(signal, linux), &[]);
    }
    expect(&with("SIGQUITT", linux), &["stopSignal: Unsupported value: \"SIGQUITT\": supported values: \"SIGABRT\", \"SIGALRM\","]);
    for signal in ["USR1", "sigusr1", "SIGRTMIN+16", "SIGRTMAX-15", "'10'", "''"] {
        expect(&with(signal, linux), &["lifecycle.stopSignal: Unsupported value"]);
    }
    let init = |more: &str| pod("", &format!("os: {{name: linux}}\ninitContainers: [{{name: i, image: b, lifecycle: {{stopSignal: SIGINT}}{more}}}]"));
    expect(&init(", restartPolicy: Always"), &[]);
    expect(&init(""), &["spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always"]);
}

#[test]
fn what_has_no_effect_is_accepted_and_said() {
    let text = pod("", "nodeSelector: {disk: ssd}\nschedulerName: default-scheduler\nenableServiceLinks: false\ntolerations: [{operator: Exists}]");
    let loaded = manifest::read(&text, "f").unwrap();
    let ours = "has no effect here: there is one node, and every pod runs on it";
    assert_eq!(
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!("spec.nodeSelector: {ours}"), format!("spec.tolerations: {ours}")]
    );
    let text = pod("env: [{name: A, value: a}, {name: A, value: b}]\nresources: {limits: {memory: 1500m}}", "");
    let warnings: Vec<String> = manifest::read(&text, "f").unwrap().warnings.iter().map(ToString::to_string).collect();
    assert!(warnings[0].contains("env[1]: hides previous definition") && warnings[1].contains("fractional byte value"), "{warnings:?}");
}

#[test]
fn other_kinds_and_versions_are_refused_by_name() {
    for (text, expected) in [
        ("apiVersion: batch/v1\nkind: CronJob", "f:2:7: kind CronJob is not supported: nothing here waits for its time"),
        ("apiVersion: v1\nkind: Endpoints", "f:2:7: kind Endpoints is not supported yet"),
        ("apiVersion: v2\nkind: Pod", "f:1:13: no matches for kind \"Pod\" in version \"v2\"; Pod is in version \"v1\""),
        ("apiVersion: v1\nkind: Job", "f:1:13: no matches for kind \"Job\" in version \"v1\"; Job is in version \"batch/v1\""),
        ("apiVersion: v1\nkind: pod", "f:2:7: no matches for kind \"pod\" in version \"v1\"; did you mean \"Pod\"?"),
        ("kind: Pod", "f:1:1: apiVersion must be set"),
        ("apiVersion: v1", "f:1:1: kind must be set"),
        ("apiVersion: 1\nkind: Pod", "f:1:13: apiVersion must be set, as a string"),
        ("- a", "f:1:1: a Kubernetes object is a mapping"),
    ] {
        expect(text, &[expected]);
    }
}

#[test]
fn the_display_is_kubectls_and_the_drawing_shows_the_line() {
    let one = manifest::read(&pod("image: ''", "").replace("    image: nginx:1\n", ""), "f").unwrap_err();
    assert_eq!(one.to_string(), "The Pod \"web\" is invalid: spec.containers[0].image: Required value");
    let two = manifest::read(&pod("comand: [a]\nvolumeDevices: [{}]", ""), "web.yaml").unwrap_err();
    assert_eq!(
        two.to_string(),
        "The Pod \"web\" is invalid:\n* unknown field \"spec.containers[0].comand\"\n* spec.containers[0].volumeDevices: raw block volumes are not supported"
    );
    let drawn = two.drawn(false);
    assert!(
        drawn.contains("--> web.yaml:9:5")
            && drawn.contains("comand: [a]")
            && drawn.contains("^^^^^^ not a field")
            && drawn.contains("did you mean \"command\"?"),
        "{drawn}"
    );
}

fn job(spec: &str, template: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    let template = template.replace('\n', "\n      ");
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: work\nspec:\n  {spec}\n  template:\n    spec:\n      {template}\n      containers:\n      - name: c\n        image: busybox\n"
    )
}

#[test]
fn the_rules_of_a_job_are_told_in_the_api_servers_words() {
    let never = "restartPolicy: Never";
    for (spec, template, expected) in [
        ("backoffLimit: 1", "restartPolicy: Always", &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""][..]),
        ("backoffLimit: 1", "hostname: h", &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""]),
        ("backoffLimit: -1", never, &["spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"]),
        ("completionMode: Indexed\nparallelism: 1", never, &["spec.completions: Required value: when completion mode is Indexed"]),
        ("completionMode: Some", never, &["spec.completionMode: Unsupported value: \"Some\": supported values: \"NonIndexed\", \"Indexed\""]),
        (
            "backoffLimitPerIndex: 1\nmaxFailedIndexes: 1",
            never,
            &[
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
            ],
        ),
        (
            "podFailurePolicy: {rules: [{action: Ignore}]}",
            never,
            &["spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"],
        ),
        (
            "podFailurePolicy: {rules: [{action: FailIndex, onExitCodes: {containerName: x, operator: In, values: [2, 0]}}]}",
            "restartPolicy: OnFailure",
            &[
                "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
                "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2, 0]: must be ordered",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
            ],
        ),
        (
            "completions: 3\ncompletionMode: Indexed\nsuccessPolicy: {rules: [{succeededIndexes: \"0-3\"}, {succeededCount: 4}]}",
            never,
            &[
                "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-3\": error parsing succeededIndexes: too large index: \"3\"",
                "spec.successPolicy.rules[1].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of specified completions)",
            ],
        ),
        // What is wrong in the template is told with its path in the job.
        (
            "backoffLimit: 1",
            "restartPolicy: Never\ninitContainers: [{name: c, image: x}]",
            &["spec.template.spec.initContainers[0].name: Duplicate value: \"c\""],
        ),
    ] {
        let mut lines: Vec<String> = manifest::read(&job(spec, template), "f").unwrap_err().faults.iter().map(|fault| fault.api_line()).collect();
        lines.sort();
        assert_eq!(lines, expected, "{spec} {template}");
    }
}

#[test]
fn a_job_is_read_as_strictly_as_a_pod() {
    for (spec, template, expected) in [
        ("backofLimit: 1", "restartPolicy: Never", "f:6:3: spec.backofLimit: unknown field; did you mean \"backoffLimit\"?"),
        ("restartPolicy: Never", "hostname: h", "f:6:3: spec.restartPolicy: unknown field; restartPolicy belongs in spec.template.spec"),
        ("completions: 1\ncompletions: 2", "restartPolicy: Never", "f:7:3: spec.completions: duplicate field"),
        ("completions: one", "restartPolicy: Never", "f:6:16: spec.completions: wrong type: \"one\": must be a whole number, not a string"),
        ("manualSelector: true", "restartPolicy: Never", "f:6:3: spec.manualSelector: a job's pods are those that it made"),
        (
            "backoffLimit: 1",
            "restartPolicy: Never\nschedulingGates: [{name: a}]",
            "f:10:7: spec.template.spec.schedulingGates: nothing here would ever open it: the pod would not start",
        ),
    ] {
        let lines = manifest::read(&job(spec, template), "f").unwrap_err().lines();
        assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
    }
}

#[test]
fn the_security_fields_say_what_they_can() {
    in_spec(&[
        ("securityContext: {seccompProfile: {type: Localhost}}", &["localhostProfile: Required value: must be set when seccomp type is Localhost"]),
        (
            "securityContext: {seccompProfile: {type: Localhost, localhostProfile: a/../../b}}",
            &["localhostProfile: Invalid value: \"a/../../b\": must not contain '..'"],
        ),
        ("securityContext: {seccompProfile: {type: Localhost, localhostProfile: /a}}", &["localhostProfile: Invalid value: \"/a\": must be a relative path"]),
        (
            "securityContext: {seccompProfile: {type: Unconfined, localhostProfile: a}}",
            &["localhostProfile: Invalid value: \"a\": can only be set when seccomp type is Localhost"],
        ),
        (
            "securityContext: {seccompProfile: {type: Strict}}",
            &["seccompProfile.type: Unsupported value: \"Strict\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\""],
        ),
        ("securityContext: {appArmorProfile: {type: Localhost}}", &["localhostProfile: Required value: must be set when AppArmor type is Localhost"]),
        ("securityContext: {appArmorProfile: {type: RuntimeDefault}}", &[]),
        (
            "securityContext: {fsGroupChangePolicy: Never, supplementalGroupsPolicy: Loose}",
            &[
                "fsGroupChangePolicy: Unsupported value: \"Never\": supported values: \"OnRootMismatch\", \"Always\"",
                "supplementalGroupsPolicy: Unsupported value: \"Loose\": supported values: \"Merge\", \"Strict\"",
            ],
        ),
        (
            "securityContext: {sysctls: [{name: Kernel.x, value: a}]}",
            &["sysctls[0].name: Invalid value: \"Kernel.x\": must have at most 253 characters and match regex"],
        ),
        (
            "hostIPC: true\nsecurityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}]}",
            &["sysctls[0].name: Invalid value: \"kernel.shm_rmid_forced\": may not be specified when 'hostIPC' is true"],
        ),
    ]);
    let mounts = |fields: &str, more: &str| pod(&format!("volumeMounts: [{{name: v, mountPath: /v, {fields}}}]{more}"), "volumes: [{name: v, emptyDir: {}}]");
    for (fields, more, expected) in [
        ("mountPropagation: HostToContainer", "", &[][..]),
        ("mountPropagation: Both", "", &["mountPropagation: Unsupported value: \"Both\""]),
        ("mountPropagation: Bidirectional", "", &["mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"]),
        ("mountPropagation: Bidirectional", "\nsecurityContext: {privileged: true}", &[]),
        ("recursiveReadOnly: Enabled", "", &["recursiveReadOnly: Forbidden: may only be specified when readOnly is true"]),
        ("readOnly: true, recursiveReadOnly: IfPossible", "", &[]),
        (
            "readOnly: true, recursiveReadOnly: Enabled, mountPropagation: HostToContainer",
            "",
            &["recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified"],
        ),
    ] {
        expect(&mounts(fields, more), expected);
    }
}

/// A pod whose spec is this, and nothing else.
fn spec(yaml: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{{yaml}}}\n")
}

/// The rules that people meet, one a row: what stands in the spec, and a line that must be told of it. `{at}` is `spec`.
#[rustfmt::skip]
const RULES: &[(&str, &str)] = &[
    ("containers: []", "{at}.containers: Required value"),
    ("containers: [{image: b}]", "{at}.containers[0].name: Required value"),
    ("containers: [{name: a}]", "{at}.containers[0].image: Required value"),
    ("containers: [{name: a, image: ' x'}]", "{at}.containers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace"),
    ("containers: [{name: A_b, image: b}]", "{at}.containers[0].name: Invalid value: \"A_b\": a lowercase RFC 1123 label must consist of"),
    ("containers: [{name: a.b, image: b}]", "{at}.containers[0].name: Invalid value: \"a.b\": must not contain dots"),
    ("containers: [{name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, image: b}]", "must be no more than 63 characters"),
    ("containers: [{name: a, image: b}, {name: a, image: b}]", "{at}.containers[1].name: Duplicate value: \"a\""),
    ("containers: [{name: a, image: b}], initContainers: [{name: a, image: b}]", "{at}.initContainers[0].name: Duplicate value: \"a\""),
    ("A, restartPolicy: Sometimes", "{at}.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\""),
    ("A, initContainers: [{name: i, image: b, readinessProbe: {tcpSocket: {port: 1}}}]", "{at}.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"),
    ("A, initContainers: [{name: i, image: b, lifecycle: {preStop: {sleep: {seconds: 1}}}}]", "{at}.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always"),
    ("containers: [{C, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]}]", "{c}.restartPolicy: Required value: must specify restartPolicy when restart rules are used"),
    ("containers: [{C, livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}}]", "{c}.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"),
    ("containers: [{C, lifecycle: {postStart: {}}}]", "{c}.lifecycle.postStart: Required value: must specify a handler type"),
    ("containers: [{C, livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}}]", "{c}.livenessProbe.successThreshold: Invalid value: 2: must be 1"),
    ("containers: [{C, startupProbe: {tcpSocket: {port: 1}, successThreshold: 2}}]", "{c}.startupProbe.successThreshold: Invalid value: 2: must be 1"),
    ("containers: [{C, readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 5}}]", "{c}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes"),
    ("containers: [{C, livenessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 0}}]", "{c}.livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0"),
    ("containers: [{C, lifecycle: {preStop: {sleep: {seconds: 31}}}}]", "{c}.lifecycle.preStop.sleep.seconds: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"),
    ("containers: [{C, ports: [{name: a}]}]", "{c}.ports[0].containerPort: Required value"),
    ("containers: [{C, ports: [{containerPort: 65536}]}]", "{c}.ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive"),
    ("containers: [{C, ports: [{containerPort: 1, name: sixteen-letters-x}]}]", "{c}.ports[0].name: Invalid value: \"sixteen-letters-x\": must be no more than 15 characters"),
    ("containers: [{C, ports: [{containerPort: 1, name: '80'}]}]", "{c}.ports[0].name: Invalid value: \"80\": must contain at least one letter (a-z)"),
    ("containers: [{C, ports: [{containerPort: 1, name: a--b}]}]", "{c}.ports[0].name: Invalid value: \"a--b\": must not contain consecutive hyphens"),
    ("containers: [{C, ports: [{containerPort: 1, name: a-}]}]", "{c}.ports[0].name: Invalid value: \"a-\": must not begin or end with a hyphen"),
    ("containers: [{C, ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]}]", "{c}.ports[1].name: Duplicate value: \"a\""),
    ("containers: [{C, ports: [{containerPort: 1, hostPort: 8080}]}, {name: d, image: b, ports: [{containerPort: 2, hostPort: 8080}]}]", "{at}.containers[1].ports[0].hostPort: Duplicate value: \"TCP//8080\""),
    ("hostNetwork: true, containers: [{C, ports: [{containerPort: 1, hostPort: 2}]}]", "{c}.ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true"),
    ("containers: [{C, volumeMounts: [{name: v, mountPath: /x}]}]", "{c}.volumeMounts[0].name: Not found: \"v\""),
    ("V, containers: [{C, volumeMounts: [{name: v, mountPath: /x}, {name: v, mountPath: /x}]}]", "{c}.volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique"),
    ("V, containers: [{C, volumeMounts: [{name: v, mountPath: /x, subPath: /a}]}]", "{c}.volumeMounts[0].subPath: Invalid value: \"/a\": must be a relative path"),
    ("V, containers: [{C, volumeMounts: [{name: v, mountPath: /x, subPath: ../a}]}]", "{c}.volumeMounts[0].subPath: Invalid value: \"../a\": must not contain '..'"),
    ("V, containers: [{C, volumeMounts: [{name: v, mountPath: /x, subPath: a, subPathExpr: b}]}]", "{c}.volumeMounts[0].subPathExpr: Invalid value: \"b\": subPathExpr and subPath are mutually exclusive"),
    ("V, containers: [{C, volumeMounts: [{name: v, mountPath: /x, mountPropagation: Bidirectional}]}]", "{c}.volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"),
    ("A, volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}]", "{at}.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"),
    ("A, volumes: [{name: v}, {name: v}]", "{at}.volumes[1].name: Duplicate value: \"v\""),
    ("A, volumes: [{name: v, configMap: {name: a, defaultMode: 512}}]", "{at}.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"),
    ("A, volumes: [{name: v, secret: {secretName: a, items: [{key: k, path: ../p, mode: -1}]}}]", "{at}.volumes[0].secret.items[0].path: Invalid value: \"../p\": must not contain '..'"),
    ("containers: [{C, env: [{value: a}]}]", "{c}.env[0].name: Required value"),
    ("containers: [{C, env: [{name: a, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}]", "{c}.env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"),
    ("containers: [{C, env: [{name: a, valueFrom: {fieldRef: {fieldPath: metadata.name}, configMapKeyRef: {name: a, key: b}}}]}]", "{c}.env[0].valueFrom: Invalid value: \"\": may not have more than one field specified at a time"),
    ("containers: [{C, env: [{name: a, valueFrom: {fieldRef: {fieldPath: x}}}]}]", "{c}.env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"x\": error converting fieldPath: field label not supported: x"),
    ("containers: [{C, env: [{name: a, valueFrom: {fieldRef: {fieldPath: status.phase}}}]}]", "{c}.env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\""),
    ("containers: [{C, resources: {limits: {cpu: 1}, requests: {cpu: 2}}}]", "{c}.resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"),
    ("containers: [{C, resources: {limits: {hugepages-2Mi: 2Mi}}}]", "{c}.resources: Forbidden: HugePages require cpu or memory"),
    ("containers: [{C, resources: {limits: {gpu: 1}}}]", "{c}.resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers"),
    ("containers: [{C, resources: {limits: {gpu: 1}}}]", "{c}.resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified"),
    ("containers: [{C, resources: {requests: {example.com/gpu: 1}}}]", "{c}.resources.limits: Required value: Limit must be set for non overcommitable resources"),
    ("A, resources: {limits: {ephemeral-storage: 1Gi}}", "{at}.resources.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\""),
    ("A, securityContext: {runAsUser: -1}", "{at}.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"),
    ("A, shareProcessNamespace: true, hostPID: true", "{at}.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled"),
    ("A, hostUsers: false, hostPID: true", "{at}.hostPID: Forbidden: when `hostUsers` is false"),
    ("A, hostUsers: false, hostNetwork: true", "{at}.hostNetwork: Forbidden: when `hostUsers` is false"),
    ("containers: [{C, securityContext: {procMount: Unmasked}}]", "{c}.securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"),
    ("containers: [{C, securityContext: {allowPrivilegeEscalation: false, privileged: true}}]", "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"),
    ("A, securityContext: {sysctls: [{name: A, value: b}]}", "{at}.securityContext.sysctls[0].name: Invalid value: \"A\": must have at most 253 characters and match regex"),
    ("A, securityContext: {sysctls: [{name: a.b, value: c}, {name: a/b, value: c}]}", "{at}.securityContext.sysctls[1].name: Duplicate value: \"a/b\""),
    ("A, activeDeadlineSeconds: 0", "{at}.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"),
    ("A, hostname: a.b", "{at}.hostname: Invalid value: \"a.b\": must not contain dots"),
    ("A, subdomain: A", "{at}.subdomain: Invalid value: \"A\": a lowercase RFC 1123 label"),
    ("A, hostAliases: [{ip: 1.2.3, hostnames: [A]}]", "{at}.hostAliases[0].ip: Invalid value: \"1.2.3\": must be a valid IP address"),
    ("A, dnsPolicy: None, dnsConfig: {searches: [a]}", "{at}.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"),
    ("A, dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}", "must not have more than 3 nameservers"),
    ("restartPolicy: Never, containers: [{C, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}]", "{c}.resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when pod `restartPolicy` is 'Never'"),
    ("containers: [{C, resizePolicy: [{resourceName: disk, restartPolicy: NotRequired}]}]", "{c}.resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\""),
    ("A, ephemeralContainers: [{name: e, image: b}]", "{at}.ephemeralContainers: Forbidden: cannot be set on create"),
    ("A, os: {name: linux}, securityContext: {windowsOptions: {}}", "{at}.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"),
    ("os: {name: linux}, containers: [{C, securityContext: {windowsOptions: {}}}]", "{c}.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"),
    ("A, affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}}]}}", "{at}.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty"),
    ("A, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In}]}]}}}", "nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
    ("A, affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {matchExpressions: [{key: a, operator: Exists}]}}]}}", "[0].weight: Invalid value: 0: must be in the range 1-100"),
    ("A, topologySpreadConstraints: [{maxSkew: 0, topologyKey: z, whenUnsatisfiable: Never}]", "{at}.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"),
    ("A, topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: Never}]", "{at}.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Never\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\""),
];

/// `A` is a container, `C` what one must have, `V` a volume v.
fn spelled(spec: &str) -> String {
    let spec = if let Some(rest) = spec.strip_prefix("A") { format!("containers: [{{name: a, image: b}}]{rest}") } else { spec.to_owned() };
    let spec = if let Some(rest) = spec.strip_prefix("V") { format!("volumes: [{{name: v}}]{rest}") } else { spec };
    spec.replace("{C,", "{name: c, image: b,")
}

#[test]
fn every_rule_is_told_with_its_path_in_a_pod() {
    for (yaml, wanted) in RULES {
        let text = spec(&spelled(yaml));
        let wanted = wanted.replace("{c}", "{at}.containers[0]").replace("{at}", "spec");
        let told: Vec<String> = manifest::examine(&text, "f").1.faults.iter().map(|fault| fault.api_line()).collect();
        assert!(told.iter().any(|line| line.contains(&wanted)), "{text}\nwanted {wanted}\ntold {told:#?}");
    }
}

#[test]
fn every_rule_is_told_with_its_path_in_the_template_of_a_job() {
    for (yaml, wanted) in RULES {
        let text = format!("apiVersion: batch/v1\nkind: Job\nmetadata: {{name: work}}\nspec: {{template: {{spec: {{{}}}}}}}\n", spelled(yaml));
        let wanted = wanted.replace("{c}", "{at}.containers[0]").replace("{at}", "spec.template.spec");
        // A Job has a narrower rule of its own for this one.
        let wanted = wanted.replace("supported values: \"Always\", \"OnFailure\", \"Never\"", "supported values: ");
        let told: Vec<String> = manifest::examine(&text, "f").1.faults.iter().map(|fault| fault.api_line()).collect();
        assert!(told.iter().any(|line| line.contains(&wanted)), "{text}\nwanted {wanted}\ntold {told:#?}");
    }
}

#[test]
fn what_is_legal_but_odd_is_warned_of_at_its_line() {
    for (yaml, wanted) in [
        ("containers: [{C, env: [{name: A, value: a}, {name: A, value: b}]}]", "spec.containers[0].env[1]: hides previous definition of \"A\""),
        ("containers: [{C, ports: [{containerPort: 80}, {containerPort: 80}]}]", "ports[1]: duplicate port definition with spec.containers[0].ports[0]"),
        (
            "containers: [{C, ports: [{containerPort: 80}]}, {name: d, image: b, ports: [{containerPort: 80}]}]",
            "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            "containers: [{C, ports: [{containerPort: 80, hostPort: 80}, {containerPort: 80}]}]",
            "ports[1]: overlapping port definition with spec.containers[0].ports[0]",
        ),
        ("containers: [{C, ports: [{containerPort: 80, hostIP: 1.1.1.1}]}]", "ports[0]: hostIP set without hostPort"),
        ("containers: [{C, resources: {limits: {memory: 1500m}}}]", "limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer"),
        ("A, volumes: [{name: g, gitRepo: {repository: r}}]", "spec.volumes[0].gitRepo: deprecated in v1.11"),
        ("A, terminationGracePeriodSeconds: -1", "must be >= 0; negative values are invalid and will be treated as 1"),
        (
            "A, serviceAccountName: s, volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}, {secret: {name: s, items: [{key: k, path: t}]}}]}}]",
            "spec.volumes[0].projected.sources[1]: has duplicated path with ServiceAccountToken \"t\"",
        ),
        (
            "A, affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: k}]}}",
            "requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
        ),
        ("A, hostAliases: [{ip: 1.1.1.1, hostnames: [a]}, {ip: 1.1.1.1, hostnames: [b]}]", "spec.hostAliases[1].ip: duplicate ip \"1.1.1.1\""),
    ] {
        let warnings = manifest::examine(&spec(&spelled(yaml)), "f").0.warnings;
        assert!(warnings.iter().any(|it| it.to_string().contains(wanted) && it.line == 4 && it.column > 1), "{yaml}\n{warnings:#?}");
    }
    // A variable that is built on the one before it hides nothing.
    let built = "containers: [{C, env: [{name: A, value: a}, {name: A, value: \"$(A)b\"}]}]";
    assert_eq!(manifest::examine(&spec(&spelled(built)), "f").0.warnings, []);
    let old = pod("", "").replace("name: web", "name: web\n  annotations: {seccomp.security.alpha.kubernetes.io/pod: runtime/default}");
    let said = "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead";
    assert_eq!(manifest::examine(&old, "f").0.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [said]);
}
