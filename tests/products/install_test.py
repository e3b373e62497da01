#!/usr/bin/env python3
"""Installs the release build into a directory and looks at what lies there.

install_test.py BUILD CASE: files, unit, manual or package. Exit 0 passed, 1 failed, 77 skipped.
"""
import glob
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def check(condition, text):
    if not condition:
        sys.exit(f"failed: {text}")


def run(*argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, **options)
    check(done.returncode == 0,
          f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def need(program):
    if shutil.which(program) is None:
        print(f"needs {program}")
        sys.exit(77)


def install(build, prefix, destdir=""):
    run("cmake", "--install", build, "--prefix", prefix, env=dict(os.environ, DESTDIR=destdir))


def files(build, work):
    """What is installed, where programs find it, and that settings of the operator survive."""
    stage, prefix = os.path.join(work, "stage"), os.path.join(work, "prefix")
    install(build, "/usr", stage)
    for name in ("usr/bin/flextoe", "usr/lib/libtoe.so", "usr/include/toe/toe.h",
                 "usr/lib/systemd/system/flextoe@.service", "etc/flextoe/default.toml",
                 "usr/share/man/man8/flextoe-run.8", "usr/share/doc/flextoe/docs/operations.md"):
        check(os.path.isfile(os.path.join(stage, name)), f"{name} is not installed")
    for unit in glob.glob(stage + "/usr/**/*.service", recursive=True) + glob.glob(
            stage + "/usr/**/*.conf", recursive=True):
        with open(unit) as file:
            text = file.read()
        check(stage not in text and "@TOE" not in text, f"{unit} names the wrong places")
    install(build, prefix)
    settings = os.path.join(prefix, "etc/flextoe/default.toml")
    with open(settings, "w") as file:
        file.write('dev = "mine"\n')
    install(build, prefix)
    with open(settings) as file:
        check(file.read() == 'dev = "mine"\n', "an installation overwrote the settings")
    flextoe = os.path.join(prefix, "bin/flextoe")
    preload = run(flextoe, "exec", "--", "sh", "-c", "echo $LD_PRELOAD",
                  env=dict(os.environ, FLEXTOE_RUNDIR=work)).strip()
    check(preload == os.path.join(prefix, "lib/libtoe.so"), f"exec preloads {preload!r}")


def unit(build, work):
    """systemd takes the unit and the drop-in without a word, and finds it hardened."""
    need("systemd-analyze")
    install(build, work)
    units = os.path.join(work, "lib/systemd/system")
    instance = os.path.join(units, "flextoe@default.service")
    shutil.copy(os.path.join(units, "flextoe@.service"), instance)
    served = os.path.join(units, "memcached.service")
    with open(served, "w") as file:
        file.write("[Service]\nExecStart=/bin/true\n")
    shutil.copytree(os.path.join(work, "share/doc/flextoe/examples/memcached.service.d"),
                    served + ".d")
    for name in (instance, served):
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", name],
                              env=dict(os.environ, SYSTEMD_UNIT_PATH=units + ":"),
                              capture_output=True, text=True, timeout=60)
        said = done.stdout + done.stderr
        ours = [line for line in said.splitlines() if "flextoe" in line or "memcached" in line]
        check(done.returncode == 0 and not ours, f"{name}: exit {done.returncode}\n{said}")
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=50", instance)
    check("flextoe" in done, done)


def manual(build, work):
    """groff has nothing to complain about, and every flag of --help is in the verb's page."""
    need("groff")
    install(build, work)
    pages = glob.glob(os.path.join(work, "share/man/man*/*"))
    check(len(pages) == 8, f"pages: {pages}")
    for page in pages:
        done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", page], capture_output=True,
                              text=True, timeout=60)
        check(done.returncode == 0 and not done.stderr, f"{page}: {done.stderr}")
        verb = re.match(r"flextoe-(\w+)\.", os.path.basename(page))
        if verb is None:
            continue
        text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
        shown = run(os.path.join(work, "bin/flextoe"), verb.group(1), "--help")
        flags = set(re.findall(r"^\s+(?:-\w,)?(--[a-z-]+)", shown, re.M))
        check("--help" in flags, f"no flags in the help of {verb.group(1)}:\n{shown}")
        for flag in flags:
            check(re.search(re.escape(flag) + r"\b", text), f"{page} does not name {flag}")


def package(build, work):
    """The package holds what an installation holds, needs only libraries, starts nothing."""
    need("dpkg-shlibdeps")
    need("dpkg-deb")
    run(os.path.join(ROOT, "tools/deb"), work)
    debs = glob.glob(os.path.join(work, "*.deb"))
    check(len(debs) == 1, f"packages: {debs}")
    fields = run("dpkg-deb", "--field", debs[0])
    for library in ("libc6", "libbpf1", "libmnl0", "libseccomp2", "libcap2", "libspdlog",
                    "libfmt9"):
        check(re.search(rf"^Depends: .*{library}", fields, re.M), f"no {library} in\n{fields}")
    root, control = os.path.join(work, "root"), os.path.join(work, "control")
    run("dpkg-deb", "--raw-extract", debs[0], root)
    shutil.move(os.path.join(root, "DEBIAN"), control)
    stage = os.path.join(work, "stage")
    install(build, "/usr", stage)

    def names(top):
        found = [os.path.join(folder, name)[len(top):]
                 for folder, _, files in os.walk(top) for name in files]
        return sorted(re.sub(r"(/man/.*)\.gz$", r"\1", name) for name in found)
    check(names(root) == names(stage), f"{set(names(root)) ^ set(names(stage))}")
    with gzip.open(os.path.join(root, "usr/share/man/man1/flextoe.1.gz"), "rt") as page:
        check(".TH flextoe 1" in page.read(), "no manual page")
    owners = {line.split()[1] for line in run("dpkg-deb", "--contents", debs[0]).splitlines()}
    check(owners == {"root/root"}, f"owners: {owners}")
    with open(os.path.join(control, "conffiles")) as file:
        check(file.read() == "/etc/flextoe/default.toml\n", "the settings are no conffile")
    for script in ("postinst", "prerm", "postrm"):
        run("sh", "-n", os.path.join(control, script))


def main(build, case):
    work = tempfile.mkdtemp(prefix="toe-install-")
    os.chmod(work, 0o755)
    try:
        {"files": files, "unit": unit, "manual": manual, "package": package}[case](build, work)
    finally:
        shutil.rmtree(work)


main(*sys.argv[1:])
