//! Sound inputs of each target and the words of its language.
#![allow(non_upper_case_globals, reason = "they bear their targets' names")]

mod tar;

use fuzzing::Seeds;

pub(crate) use tar::tar_reader;

const fn seeds(whole: &'static [&'static [u8]], words: &'static [&'static str]) -> Seeds<'static> {
    Seeds { whole, words, mend: None }
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub(crate) const api_bodies: Seeds<'_> = seeds(
    &[
        br#"{"Image":"busybox","Cmd":["sh","-c","true"],"Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","x"],"Interval":1000000000},"HostConfig":{"Binds":["/a:/b:ro"],"Memory":1048576,"NanoCpus":500000000,"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"Mounts":[{"Type":"bind","Source":"/a","Target":"/b"}],"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],"LogConfig":{"Type":"json-file","Config":{"max-size":"10m"}}},"NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":["x"],"IPAMConfig":{"IPv4Address":"10.0.0.2"}}}}}"#,
        br#"{"Memory":0,"CpuShares":2,"RestartPolicy":{"Name":"always"}}"#,
        br#"{"AttachStdout":true,"Cmd":["ls"],"Tty":false,"User":"1:1","ConsoleSize":[24,80]}"#,
        br#"{"Name":"n","Driver":"bridge","IPAM":{"Config":[{"Subnet":"10.1.0.0/16","Gateway":"10.1.0.1","IPRange":"10.1.2.0/24"}]},"Options":{"a":"b"},"EnableIPv6":true}"#,
        br#"{"Container":"c","EndpointConfig":{"IPAMConfig":{"IPv6Address":"fd00::2"}},"Force":true}"#,
        br#"{"label":{"a=b":true,"c":false},"name":["x"]}"#,
    ],
    &["null", "true", "[]", "{}", "\"\"", "\"HostConfig\":", "\\u0000", "\\ud800", "Type", "volume", ",", ":", "["],
);

pub(crate) const auth_challenges: Seeds<'_> = seeds(
    &[
        b"Bearer realm=\"https://auth.example/token\",service=\"registry\",scope=\"repository:a/b:pull,push\"",
        b"Basic realm=\"x \\\" y\", charset=UTF-8, Digest nonce=abc , Negotiate",
    ],
    &["Bearer ", "Basic", "realm=", "\"", "\\", ",", " ", "=", "scope=\"", "token68==", "\t"],
);

pub(crate) const build_definitions: Seeds<'_> = seeds(
    &[
        b"\n\x1d\x1a\x1b\n\x19docker-image://busybox:1.0",
        b"\n\x0e\x12\x0c\n\x02sh\x12\x02-c\x1a\x02/a\n\x10\n\x0e\n\x0bsha256:abcd\x10\x01\x12\x06\n\x02\x08\x01\x12\0",
        b"\n\x0b\x22\x09\x12\x07\x08\x01\x22\x03\n\x01/\x12\x04\n\x02os",
    ],
    &["docker-image://", "local://context", "git://", "https://x/y", "oci-layout://", DIGEST, "linux/amd64", "/", ".."],
);

pub(crate) const dns_messages: Seeds<'_> = seeds(
    &[
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01",
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x01a\0\0\x1c\0\x01\0\0\x29\x10\0\0\0\0\0\0\0",
        b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x012\x010\x010\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01",
        b"\0\x01\x81\x80\0\x01\0\x01\0\0\0\0\x01a\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01",
    ],
    &["\0\0\u{29}", "\u{3}www", "\u{7}in-addr\u{4}arpa\0", "\0\u{1}\0\u{1}", "\0\0"],
);

pub(crate) const dockerfiles: Seeds<'_> = seeds(
    &[
        b"# syntax=docker/dockerfile:1\nARG V=1\nFROM busybox:${V:-2} AS one\nRUN --mount=type=cache,target=/x --network=none echo \\\n  a\nCOPY --from=one --chown=1:1 [\"a b\", \"/c\"]\nENV A=b C=\"d e\"\nHEALTHCHECK --interval=5s CMD x\n",
        b"FROM scratch\nCOPY <<EOF <<-\"END\" /x/\nfirst $A\nEOF\n\tsecond\n\tEND\nRUN <<S\nset -e\nS\nONBUILD ADD https://x/y.tar /z\nLABEL a=b\nEXPOSE 80/tcp 1-2\nSTOPSIGNAL 9\nSHELL [\"a\"]\n",
        b"# a comment\n**/*.go\n!vendor/[a-z]?\\*.md\n/abs\n../up\n",
    ],
    &["FROM ", "RUN ", "COPY ", "<<EOF", "EOF\n", "\\\n", "${", ":-", "}", "--mount=", "--", "[\"", "\"]", "ONBUILD ", "# escape=`\n", "**", "!", "\r\n", "\u{feff}", "'"],
);

pub(crate) const image_documents: Seeds<'_> = seeds(
    &[
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1,"platform":{"os":"linux","architecture":"arm","variant":"v7"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"}}]}"#,
        br#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":3}],"subject":null,"annotations":{}}"#,
        br#"{"architecture":"amd64","os":"linux","created":"2024-01-02T03:04:05.6Z","config":{"Env":["A=b"],"Cmd":["x"],"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["NONE"]},"Labels":{"a":"b"}},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":[{"created_by":"x","empty_layer":true}]}"#,
        b"linux(10.0)/arm64/v8",
    ],
    &["null", "[]", "{}", "\"\"", DIGEST, "\"urls\":[\"http://x\"]", "linux", "windows", "/", "\"artifactType\":", "\\u0000"],
);

pub(crate) const layer_compressions: Seeds<'_> = seeds(
    &[
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03K\xce\xcf+I\xcd+Q\xc8OSHT\xc8I\xacL-b\xe0J&R\x0c\x00#~\xc5\x11<\x00\x00\x00",
        b"BZh91AY&SY\x92V\xc2\xe2\x00\x00\x0b\xd1\x80@\x10@\x00+\x05\x94  \x00\x22\xbf\xd5@\x06B\x01\xa0\x0f*\xdb(i\xd6\xd7JYB\xcb!t\xd1\xd7\xc5\xdc\x91N\x14$$\x95\xb0\xb8\x80",
        b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\xe0\x00;\x00\x1a]\x001\x9b\xca\x19\xda\xed\xa4\xf2\xbb|[\xe1\xc0\x9er\xb1\xb0\x14gS\x03v\xcc\x82\x80\x00\x00\x00\x00&\x8d\xa7\xa1k\xb9CY\x00\x016<\xd9X\xf5\x86\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ",
        b"(\xb5/\xfd\x04X\xd5\x00\x00\xa0content of a layer\x00\x0a\x01\x00^9\x99\x000c\xaa",
    ],
    &["\u{1f}", "BZh9", "7zXZ\0", "YZ", "\0\0\0\0", "(", "\u{4}", "\u{21}", "\u{16}", "*M\u{18}"],
);

pub(crate) const link_headers: Seeds<'_> = seeds(
    &[b"</v2/a/tags/list?n=2&last=b>; rel=\"next\", <x>; rel=prev"],
    &["<", ">", "; rel=\"next\"", "rel=next", ",", ";", "\"", " ", "\\"],
);

pub(crate) const log_reader: Seeds<'_> = seeds(
    &[
        br#"{"log":"a \u00e9 \\ \" \n","stream":"stdout","time":"2024-01-02T03:04:05.123456789Z"}"#,
        br#"{"log":"x\n","stream":"stderr","attrs":{"a":"b"},"time":"2024-02-29T23:59:60Z"}
{"log":"\ud83d\ude00\ud800","stream":"stdout","time":"1969-12-31T23:59:59.9+02:00"}"#,
        b"\x0c\0\0\0\n\x06stdout\x10\x01\x1a\x01x\x0c\0\0\0",
    ],
    &[
        "\\u",
        "\\ud83d",
        "\\ude00",
        "\\\\",
        "\\\"",
        "\"log\":",
        "\"stream\":",
        "\"time\":",
        "\"attrs\":{",
        "\n",
        "Z",
        "\u{fffd}",
    ],
);

pub(crate) const references: Seeds<'_> = seeds(
    &[
        b"registry.example:5000/a/b-c__d.e:tag@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        b"busybox",
        b"[fd00::1]:5000/x:y",
        b"docker.io/library/debian:trixie",
    ],
    &["/", ":", "@", "..", ".", "__", "-", "localhost", "docker.io", "library/", "sha256:", "[::1]", "%2f", "?"],
);

pub(crate) const registry_documents: Seeds<'_> = seeds(
    &[
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1}]}"#,
        br#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},"layers":[]}"#,
        br#"{"schemaVersion":1,"name":"x","fsLayers":[{"blobSum":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}"#,
    ],
    &["\"manifests\":[]", "\"layers\":[]", "\"config\":{}", "\"schemaVersion\":1", DIGEST, "null", ",", "\"size\":"],
);

pub(crate) const server_manifests: Seeds<'_> = seeds(registry_documents.whole, registry_documents.words);

pub(crate) const server_requests: Seeds<'_> = seeds(
    &[
        b"/v2/a/b/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        b"/v2/a/manifests/latest?ns=x",
        b"/v2/a/blobs/uploads/12345678-1234-4123-8123-123456789012?digest=sha256%3Aab&mount=x&from=y",
        b"bytes=0-99",
        b"bytes=-5",
        b"100-199",
        b"/v2/a/referrers/sha256:ab?artifactType=x",
        b"/v2/_catalog?n=2&last=b",
    ],
    &[
        "/v2/",
        "..",
        "%2e%2e",
        "%2f",
        "//",
        "/blobs/",
        "/uploads/",
        "/manifests/",
        "/tags/list",
        "bytes=",
        "-",
        ",",
        "&",
        "?",
        "%00",
        "_blobs",
    ],
);
