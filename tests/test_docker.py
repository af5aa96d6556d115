"""The files of docker/ and docs/cluster.md, as far as they can be checked without a container engine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.commands import check_command

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
FILES = sorted([*(path for path in DOCKER.iterdir() if path.is_file()), ROOT / "docs" / "cluster.md"])
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def text_of(name: str) -> str:
    return (DOCKER / name).read_text()


def tool(name: str) -> str:
    """A linter that its package put beside this interpreter."""
    return str(Path(sys.executable).parent / name)


def compose() -> dict:
    """compose.yaml with its variables filled in, as an environment that has them all would."""
    filled = re.sub(
        r"\$\{\w+(?::([-?])([^}]*))?\}", lambda m: m[2] if m[1] == "-" else "given", text_of("compose.yaml")
    )
    return yaml.safe_load(filled)


def kuberay() -> dict[str, dict]:
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text_of("kuberay.yaml"))}


# Commands and paths, wherever they are written


def scalars(node: object) -> Iterator[str]:
    """Each string of a YAML tree, a list of words as one command."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from scalars(value)
    elif isinstance(node, list):
        if all(isinstance(item, str | int) for item in node) and " " not in str(node[:1]):
            yield shlex.join(map(str, node))
        for value in node:
            yield from scalars(value)


def snippets(path: Path) -> list[str]:
    """What of a file is code: YAML values, shell lines, fenced blocks, indented comments, words in backticks."""
    text = path.read_text().replace("\\\n", " ")
    found = re.findall(r"^#  +(\S.*)$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    if path.suffix == ".yaml":
        for document in yaml.safe_load_all(path.read_text()):
            found += scalars(document)
    elif path.suffix == ".md":
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            found += block.splitlines()
    else:
        found += [line for line in text.splitlines() if not line.lstrip().startswith(("#", "COPY"))]
    return found


def commands(path: Path) -> Iterator[list[str]]:
    for snippet in snippets(path):
        for program, rest in re.findall(r"(?<![\w.:=-])(hpscan|ray) (?!=)([^\n;|&()]+)", snippet):
            yield [program, *shlex.split(rest.replace('"$@"', ""))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_hpscan_and_ray_command_parses(path):
    for words in commands(path):
        check_command(words)


@pytest.mark.parametrize(
    "words", [["hpscan", "lunch"], ["hpscan", "launch", "--adress", "auto"], ["ray", "start", "--hed"]], ids=" ".join
)
def test_a_command_that_does_not_exist_is_found(words):
    with pytest.raises(AssertionError):
        check_command(words)


def test_the_commands_are_found_where_they_are():
    found = {path.name: {tuple(words[:2]) for words in commands(path)} for path in FILES}
    assert {("ray", "start"), ("hpscan", "launch")} <= found["compose.yaml"]
    assert ("hpscan", "launch") in found["kuberay.yaml"]
    assert {("ray", "up"), ("ray", "start"), ("ray", "stop")} <= found["ray-cluster.yaml"]
    assert {("ray", "start"), ("ray", "health-check"), ("hpscan", "launch")} <= found["slurm.sh"]
    assert {("hpscan", name) for name in ("launch", "submit", "status", "logs", "cancel")} <= found["cluster.md"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_path_of_the_repository_exists(path):
    named = re.findall(r"(?<![\w/~.$=-])((?:docker|docs|tests|hpscan|sweeps|dashboards)/[\w./-]*\w)", path.read_text())
    named += re.findall(r"\]\((?!http)([^)#]+)", path.read_text()) if path.suffix == ".md" else []
    for name in named:
        assert (ROOT / name).exists() or (path.parent / name).exists(), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_specs_that_are_named_are_shipped(path):
    for words in commands(path):
        if words[:2] == ["hpscan", "launch"] and len(words) > 2 and re.fullmatch(r"[a-z]\w*", words[2]):
            assert (ROOT / "sweeps" / f"{words[2]}.yaml").exists(), words


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_versions_are_those_of_the_project(path):
    for version in re.findall(r"\bhpscan:(\d[\w.]*)", path.read_text()):
        assert version == PROJECT["version"]
    for version in re.findall(r"\b(?:rayVersion: \"|Ray )(\d+\.\d+\.\d+)", path.read_text()):
        assert version == PINS["ray"]


# The image


def test_dockerfile_passes_hadolint():
    done = subprocess.run([tool("hadolint"), DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_copied_file_exists_and_is_part_of_the_context():
    allowed = [line[1:] for line in text_of("Dockerfile.dockerignore").splitlines() if line.startswith("!")]
    assert "\n*\n" in text_of("Dockerfile.dockerignore")
    lines = re.findall(r"^COPY (?!--from)(.*)$", text_of("Dockerfile"), re.MULTILINE)
    copied = [name for words in lines for name in words.split()[:-1]]
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name in allowed, name
    assert sorted(allowed) == sorted(copied)


def test_every_package_and_file_that_the_build_needs_is_copied():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    needed = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", *tools["package-dir"].values()}
    assert needed <= set(re.findall(r"^!(\S+)$", text_of("Dockerfile.dockerignore"), re.MULTILINE))


def test_base_image_is_pinned_to_a_patch_release_that_the_project_supports():
    base = re.search(r"^ARG BASE=python:(\d+\.\d+)\.\d+-slim-\w+$", text_of("Dockerfile"), re.MULTILINE)
    assert base is not None
    assert f"Programming Language :: Python :: {base[1]}" in PROJECT["classifiers"]


def test_image_runs_as_a_fixed_user_and_has_no_entrypoint():
    final = text_of("Dockerfile").rpartition("\nFROM ")[2]
    assert re.search(r"useradd --uid 10001 ", final)
    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["10001:10001"]
    assert not re.search(r"^(ENTRYPOINT|HEALTHCHECK)", final, re.MULTILINE)


def test_torch_of_the_image_is_the_pinned_one():
    assert "torch" in PINS
    assert "grep '^torch==' constraints.txt" in text_of("Dockerfile")


# compose.yaml


def test_compose_file_follows_the_compose_specification():
    from compose_spec import PyCompose

    parsed = PyCompose.from_yaml(yaml.safe_dump(compose()))
    assert set(parsed.service_names()) == {"head", "worker", "s3", "bucket"}


def test_a_misspelt_key_of_the_compose_file_would_be_found():
    from compose_spec import PyCompose

    broken = compose()
    broken["services"]["head"]["heathcheck"] = {}
    with pytest.raises(ValueError, match="heathcheck"):
        PyCompose.from_yaml(yaml.safe_dump(broken))


def test_compose_does_not_start_without_a_token():
    for secret in ("RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        uses = re.findall(rf"\$\{{{secret}([^}}]*)\}}", text_of("compose.yaml"))
        assert uses
        assert all(use.startswith(":?") for use in uses)
    for name in ("head", "worker"):
        environment = compose()["services"][name]["environment"]
        assert (environment["RAY_AUTH_MODE"], environment["RAY_AUTH_TOKEN"]) == ("token", "given")


def test_compose_publishes_on_loopback_only_and_waits_for_health():
    services = compose()["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for service in services.values():
        assert "healthcheck" in service
        for name, needed in service.get("depends_on", {}).items():
            assert name in services
            if needed["condition"] == "service_healthy":
                assert "test" in services[name]["healthcheck"]


def test_bucket_is_made_once_and_found_the_next_time(s3_port, monkeypatch):
    from pyarrow.fs import FileSystem, FileType

    service = compose()["services"]["bucket"]
    program, *arguments = service["command"]
    assert program == "python"
    for name, value in {**service["environment"], "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}"}.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        subprocess.run([sys.executable, *arguments], check=True, timeout=120)
    s3, bucket = FileSystem.from_uri("s3://hpscan")
    assert s3.get_file_info(bucket).type == FileType.Directory


# kuberay.yaml


def test_kuberay_manifests_are_a_cluster_and_a_job_on_it():
    manifests = kuberay()
    cluster, job = manifests["RayCluster"], manifests["RayJob"]
    assert {manifest["apiVersion"] for manifest in manifests.values()} == {"ray.io/v1"}
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert cluster["spec"]["rayVersion"] == PINS["ray"]
    assert cluster["spec"]["authOptions"] == {"mode": "token", "secretName": "hpscan-ray-token"}
    assert cluster["spec"]["enableInTreeAutoscaling"] is True
    for group in cluster["spec"]["workerGroupSpecs"]:
        assert 0 < group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_secrets_that_the_manifests_need_are_made_by_the_commands_above_them():
    needed = set(re.findall(r"(?:secretName: |secretRef: \{name: )([\w-]+)", text_of("kuberay.yaml")))
    assert needed
    assert needed == set(re.findall(r"kubectl create secret generic ([\w-]+)", text_of("kuberay.yaml")))
    assert "--from-literal=auth_token=" in text_of("kuberay.yaml")


def test_pods_run_as_the_user_of_the_image_with_bounded_resources():
    spec = kuberay()["RayCluster"]["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert set(group) <= {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        check_command(["ray", "start", *(f"--{name}" for name in group["rayStartParams"])])
        pod = group["template"]["spec"]
        user = pod["securityContext"]
        assert (user["runAsNonRoot"], user["runAsUser"]) == (True, 10001)
        for container in pod["containers"]:
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


# ray-cluster.yaml


def validated(config: dict) -> dict:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    return prepared


def test_ray_cluster_follows_rays_schema():
    config = yaml.safe_load(text_of("ray-cluster.yaml"))
    (node,) = validated(config)["available_node_types"].values()
    assert node["max_workers"] == len(config["provider"]["worker_ips"])


def test_ray_cluster_in_a_cloud_follows_rays_schema():
    lines = [line[4:] for line in text_of("ray-cluster.yaml").splitlines() if line.startswith("#   ")]
    start = next(i for i, line in enumerate(lines) if line.startswith("provider:"))
    cloud = yaml.safe_load("\n".join(lines[start:]))
    prepared = validated({**yaml.safe_load(text_of("ray-cluster.yaml")), **cloud})
    assert set(prepared["available_node_types"]) == {"head", "worker"}


def test_ray_cluster_hands_every_node_the_token():
    config = yaml.safe_load(text_of("ray-cluster.yaml"))
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for role in ("head", "worker"):
        assert "RAY_AUTH_MODE=token" in config[f"{role}_start_ray_commands"][-1]


# slurm.sh


def test_slurm_script_passes_shellcheck():
    done = subprocess.run([tool("shellcheck"), DOCKER / "slurm.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


STUBS = {
    "scontrol": "printf 'one\\ntwo\\nthree\\n'",
    "srun": 'echo "srun $*" >>"$CALLS"; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "ray": 'echo "ray $*" >>"$CALLS"; [[ $1 != start ]] || { echo $$ >>"$PIDS"; exec sleep 600; }',
    # as the script's own does, it waits until the head and the others are there
    "python3": "if [[ $1 == -c ]]; then echo secret; else cat >/dev/null; until (($(wc -l <$PIDS) == 2)); do sleep 0.1; done; "
    'echo "wait $*" >>"$CALLS"; fi',
    "hpscan": 'echo "hpscan $* $RAY_AUTH_MODE $RAY_AUTH_TOKEN" >>"$CALLS"; exit 3',
}


def test_slurm_script_starts_every_node_and_ends_them_all(tmp_path):
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name, body in STUBS.items():
        (stubs / name).write_text(f"#!{shutil.which('bash')}\n{body}\n")
        (stubs / name).chmod(0o755)
    calls, pids = tmp_path / "calls", tmp_path / "pids"
    environment = {
        "PATH": f"{stubs}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "PIDS": str(pids),
        "HPSCAN_HEAD_IP": "127.0.0.1",
        "SLURM_JOB_ID": "12345678",
        "SLURM_JOB_NODELIST": "[one,two,three]",
        "SLURM_CPUS_PER_TASK": "4",
    }
    command = ["bash", DOCKER / "slurm.sh", "quickstart", "--store", "/shared"]
    done = subprocess.run(command, env=environment, check=False, timeout=60)
    assert done.returncode == 3  # what hpscan said
    lines = calls.read_text().splitlines()
    assert "hpscan launch quickstart --store /shared --address 127.0.0.1:25678 token secret" in lines
    assert "wait - 127.0.0.1:25678 3" in lines
    head, others = (
        next(line for line in lines if line.startswith("srun") and word in line) for word in ("--head", "--relative")
    )
    assert "--nodelist=one" in head
    assert "--nodes=2 --ntasks=2 --relative=1" in others
    started = [shlex.split(line) for line in lines if line.startswith("ray ")]
    assert any("--address=127.0.0.1:25678" in words for words in started)
    for words in started:
        check_command(words)
    for pid in pids.read_text().split():
        assert not Path(f"/proc/{pid}").exists()


def test_slurm_script_says_how_it_is_used():
    done = subprocess.run(["bash", DOCKER / "slurm.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: sbatch" in done.stderr
