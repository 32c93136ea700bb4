"""Our plugins under the real engine, with a file backend."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.waiting import wait_until

pytestmark = pytest.mark.engine

PROGRAM = """
    import sys
    import pulumi
    import pulumi_random

    config = pulumi.Config()
    print("the program runs")
    print("to stderr", file=sys.stderr)
    password = pulumi_random.RandomPassword(
        "password",
        length=config.require_int("length"),
        min_numeric=2,
        override_special="#-_",  # Nothing that JSON may write in another way: tests look for the text.
        keepers={"v": config.require("v")},
    )
    pulumi.export("password", password.result)
    pulumi.export("shown", password.result.apply(lambda text: f"is {text}"))
"""

PACK = """
    import pulumi
    from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy

    def long_enough(args, report):
        if args.resource_type.endswith(":RandomPassword") and args.props["length"] < 16:
            report(f"{pulumi.get_stack()}: {int(args.props['length'])} characters are too few")

    PolicyPack(
        "passwords",
        [ResourceValidationPolicy("long", "Passwords are long.", long_enough, EnforcementLevel.MANDATORY)],
    )
"""


class Project:
    """A Pulumi project in a folder, with the stack `dev`."""

    def __init__(self, folder: Path, cli: Path, env: dict[str, str]) -> None:
        self.folder, self.cli, self.env = folder, cli, env
        folder.mkdir()
        self.options = {"toolchain": "pip", "virtualenv": sys.prefix}
        self.write_project()
        self.write(PROGRAM)
        self.pulumi("stack", "init", "dev")
        self.pulumi("config", "set", "length", "20")
        self.pulumi("config", "set", "v", "1")

    def write_project(self) -> None:
        runtime = {"name": "python", "options": self.options}
        (self.folder / "Pulumi.yaml").write_text(json.dumps({"name": "demo", "runtime": runtime}))

    def write(self, program: str) -> None:
        (self.folder / "__main__.py").write_text(textwrap.dedent(program))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.cli, *arguments, "--non-interactive"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def pulumi(self, *arguments: str, fails: bool = False) -> str:
        """Runs the CLI: its stdout and stderr together."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=300)
        assert (process.returncode != 0) == fails, said
        return said

    def output(self, *arguments: str) -> dict[str, Any]:
        """The stack's outputs. Separate from `pulumi`: warnings on stderr are not JSON."""
        command = [self.cli, "stack", "output", "--json", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, check=True)
        return json.loads(done.stdout)


@pytest.fixture
def project(tmp_path: Path, pulumi_cli: Path, pulumi_env: dict[str, str]) -> Project:
    return Project(tmp_path / "project", pulumi_cli, pulumi_env)


def test_a_password_lives_from_preview_to_destroy(project: Project) -> None:
    said = project.pulumi("preview", "--diff")
    assert "random:index/randomPassword:RandomPassword: (create)" in said
    assert "the program runs" in said
    assert "to stderr" in said

    project.pulumi("up", "--yes", "--skip-preview")
    first = project.output("--show-secrets")["password"]
    assert len(first) == 20
    assert sum(character.isdigit() for character in first) >= 2
    project.pulumi("preview", "--expect-no-changes")
    project.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes", "--refresh")
    assert project.output("--show-secrets")["password"] == first

    project.pulumi("config", "set", "v", "2")
    said = project.pulumi("preview", "--diff")
    assert "random:index/randomPassword:RandomPassword: (replace)" in said
    assert '~ v: "1" => "2"' in said
    project.pulumi("up", "--yes", "--skip-preview")
    assert project.output("--show-secrets")["password"] != first

    said = project.pulumi("destroy", "--yes")
    assert "2 deleted" in said
    assert "resources" not in json.loads(project.pulumi("stack", "export"))["deployment"]


def test_a_password_stays_secret_in_state_output_and_log(project: Project) -> None:
    log = project.pulumi("up", "--yes", "--diff")
    outputs = project.output("--show-secrets")
    password = outputs["password"]
    assert outputs["shown"] == f"is {password}"
    assert project.output() == {"password": "[secret]", "shown": "[secret]"}
    exported = project.pulumi("stack", "export")
    assert "ciphertext" in exported
    state = b"".join(
        path.read_bytes() for path in Path(project.env["PULUMI_BACKEND_URL"][7:]).rglob("*.json*")
    )
    assert b"RandomPassword" in state
    for place in (log, exported, project.pulumi("stack", "output")):
        assert password not in place
    assert password.encode() not in state
    assert password in project.pulumi("stack", "export", "--show-secrets")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('length=0, keepers={"v": "1"}', "length: 0 is out of range; allowed: 1 to 4096"),
        ("length=8, min_upper=9", "length: 8 is less than minUpper 9 = 9; allowed: 9 to 4096"),
    ],
)
def test_a_mistake_fails_the_preview_with_key_value_and_what_is_allowed(
    project: Project, arguments: str, said: str
) -> None:
    project.write(f"import pulumi_random\npulumi_random.RandomPassword('password', {arguments})")
    assert said in project.pulumi("preview", fails=True)


def test_another_type_of_the_random_provider_fails_the_preview_by_name(project: Project) -> None:
    project.write("import pulumi_random\npulumi_random.RandomPet('pet')")
    said = project.pulumi("preview", fails=True)
    assert "random:index/randomPet:RandomPet is not served by the stand-in random provider" in said


def test_an_input_that_is_known_only_after_up_previews_and_deploys(project: Project) -> None:
    project.write("""
        import pulumi
        import pulumi_random
        first = pulumi_random.RandomPassword("first", length=12)
        length = first.result.apply(len)
        second = pulumi_random.RandomPassword("second", length=length, keepers={"v": first.id})
        pulumi.export("lengths", pulumi.Output.unsecret(second.result.apply(len)))
    """)
    project.pulumi("preview")
    project.pulumi("up", "--yes")
    assert project.output() == {"lengths": 12}


def pack(folder: Path) -> Path:
    folder.mkdir()
    runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
    (folder / "PulumiPolicy.yaml").write_text(json.dumps({"runtime": runtime, "version": "0.0.7"}))
    (folder / "__main__.py").write_text(textwrap.dedent(PACK))
    return folder


def test_a_python_policy_pack_sees_the_stack_and_blocks(project: Project, tmp_path: Path) -> None:
    rules = str(pack(tmp_path / "a pack"))
    said = project.pulumi("preview", "--policy-pack", rules)
    assert "passwords@v0.0.7" in said
    project.pulumi("config", "set", "length", "15")
    for command in (["preview"], ["up", "--yes", "--skip-preview"]):
        said = project.pulumi(*command, "--policy-pack", rules, fails=True)
        assert "dev: 15 characters are too few" in said
        assert "[mandatory]" in said
    assert "RandomPassword" not in project.pulumi("stack", "export")


def test_a_policy_pack_that_does_not_start_fails_the_preview_with_its_traceback(
    project: Project, tmp_path: Path
) -> None:
    rules = pack(tmp_path / "pack")
    (rules / "__main__.py").write_text("raise ValueError('no such rule')")
    said = project.pulumi("preview", "--policy-pack", str(rules), fails=True)
    assert "ValueError: no such rule" in said
    assert "error: a policy pack ended before it served" in said


def test_a_program_in_a_subfolder_runs_there_with_the_environment_of_the_projects_folder(
    project: Project,
) -> None:
    (project.folder / "environment").symlink_to(sys.prefix)
    (project.folder / "app").mkdir()
    runtime = {"name": "python", "options": {"virtualenv": "environment"}}
    (project.folder / "Pulumi.yaml").write_text(
        json.dumps({"name": "demo", "main": "app", "runtime": runtime})
    )
    (project.folder / "app" / "beside.py").write_text("FOUND = 'beside'")
    (project.folder / "app" / "__main__.py").write_text(
        "import os, sys, pulumi\nfrom beside import FOUND\n"
        "pulumi.export('seen', [os.getcwd(), sys.prefix, FOUND, pulumi.get_root_directory()])"
    )
    project.pulumi("up", "--yes", "--skip-preview")
    cwd, prefix, beside, root = project.output()["seen"]
    assert cwd == str(project.folder / "app")
    assert Path(prefix).samefile(sys.prefix)
    assert (beside, root) == ("beside", str(project.folder))


def test_an_exception_of_the_program_is_shown_once_with_its_traceback(project: Project) -> None:
    project.write(PROGRAM + "\n    raise ValueError('the program is wrong')\n")
    said = project.pulumi("preview", fails=True)
    assert said.count("ValueError: the program is wrong") == 1
    assert f'File "{project.folder}/__main__.py"' in said
    assert "non-zero exit code" not in said


def test_a_program_that_exits_on_its_own_fails_with_its_status(project: Project) -> None:
    project.write("import os\nos._exit(5)")
    assert "Program exited with non-zero exit code: 5" in project.pulumi("preview", fails=True)


def test_a_missing_virtual_environment_is_one_message_with_the_folder_and_what_to_do(
    project: Project,
) -> None:
    project.options["virtualenv"] = "absent"
    project.write_project()
    said = project.pulumi("preview", fails=True)
    message = (
        f"the folder {project.folder}/absent does not exist. Run `make setup` in {project.folder} to make it."
    )
    assert said.count(message) == 1
    assert "Traceback" not in said


def test_about_shows_the_interpreter_and_what_is_installed(project: Project) -> None:
    about = json.loads("{" + project.pulumi("about", "--json").partition("{")[2])
    assert about["runtime"]["language"] == "python"
    assert Path(about["runtime"]["executable"]).samefile(sys.executable)
    assert "spillway" in [dependency["name"] for dependency in about["dependencies"]]


def test_a_debugger_is_refused_with_a_reason(project: Project) -> None:
    said = project.pulumi("preview", "--attach-debugger=program", fails=True)
    assert "--attach-debugger is not served by this Python language host" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_the_engine_is_interrupted_or_killed(
    project: Project, tmp_path: Path, number: signal.Signals
) -> None:
    project.write(f"""
        import os, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open({str(tmp_path / "pids")!r}, "w") as file:
            file.write(f"{{os.getpid()}} {{child.pid}} end")
        time.sleep(600)
    """)
    rules = pack(tmp_path / "pack")
    engine = project.start("preview", "--policy-pack", str(rules))
    pids = tmp_path / "pids"
    wait_until(lambda: pids.exists() and pids.read_text().endswith("end"), "the program runs")
    family = psutil.Process(engine.pid).children(recursive=True)
    commands = [" ".join(process.cmdline()) for process in family]
    assert {int(pid) for pid in pids.read_text().split()[:2]} <= {process.pid for process in family}
    assert any("pulumi.policy" in command for command in commands)
    engine.send_signal(number)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    engine.communicate(timeout=60)
    assert engine.returncode != 0


def test_a_component_plugin_in_python_serves_a_program(project: Project, tmp_path: Path) -> None:
    component = tmp_path / "component"
    component.mkdir()
    runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
    (component / "PulumiPlugin.yaml").write_text(json.dumps({"runtime": runtime}))
    (component / "__main__.py").write_text(
        textwrap.dedent("""
            from typing import TypedDict
            import pulumi
            from pulumi.provider.experimental import component_provider_host

            class Args(TypedDict):
                size: pulumi.Input[int]

            class Box(pulumi.ComponentResource):
                doubled: pulumi.Output[int]

                def __init__(self, name: str, args: Args, opts: pulumi.ResourceOptions | None = None):
                    super().__init__("boxes:index:Box", name, {}, opts)
                    self.doubled = pulumi.Output.from_input(args["size"]).apply(lambda n: n * 2)
                    self.register_outputs({"doubled": self.doubled})

            component_provider_host([Box], name="boxes")
        """)
    )
    plain = json.loads((project.folder / "Pulumi.yaml").read_text())
    plugins = {"providers": [{"name": "boxes", "path": os.path.relpath(component, project.folder)}]}
    (project.folder / "Pulumi.yaml").write_text(json.dumps({**plain, "plugins": plugins}))
    project.write("""
        import pulumi
        class Box(pulumi.ComponentResource):
            doubled: pulumi.Output[int]
            def __init__(self, name, size):
                super().__init__("boxes:index:Box", name, {"size": size, "doubled": None}, None, remote=True)
        pulumi.export("doubled", Box("box", 21).doubled)
    """)
    project.pulumi("up", "--yes", "--skip-preview")
    assert project.output() == {"doubled": 42}
