"""The checkers find what they are there for: each is run over small trees that break one rule."""
import os
import subprocess
import tempfile
import unittest

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools")


def run(tool, files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as out:
                out.write(text)
        return subprocess.run([os.path.join(TOOLS, tool), root], capture_output=True, text=True)


class Layers(unittest.TestCase):
    def refused(self, path, include):
        files = {"src/base/x.h": "", "src/flow/x.h": "", "src/port/x.h": "", "src/control/x.h": "",
                 "src/engine/x.h": "", "src/shm/x.h": "", "src/wire/x.h": ""}
        files[path] = f"// text\n#include {include}\n"
        done = run("check_layers", files)
        if done.returncode != 0:
            self.assertIn(f"{path}:2: ", done.stdout)
        return done.returncode != 0

    def test_rows_of_the_table(self):
        self.assertFalse(self.refused("src/datapath/a.cc", '"flow/x.h"'))
        self.assertTrue(self.refused("src/datapath/a.cc", '"control/x.h"'))
        self.assertTrue(self.refused("src/datapath/a.cc", '"port/x.h"'))
        self.assertTrue(self.refused("src/wire/a.h", '"flow/x.h"'))
        self.assertTrue(self.refused("src/libtoe/a.cc", '"wire/x.h"'))
        self.assertFalse(self.refused("src/libtoe/a.cc", '"toe/socket.h"'))
        self.assertTrue(self.refused("src/cli/a.cc", '"engine/x.h"'))
        self.assertFalse(self.refused("src/cli/main.cc", '"engine/x.h"'))
        self.assertFalse(self.refused("src/engine/a.cc", '"port/x.h"'))

    def test_forms(self):
        self.assertTrue(self.refused("src/flow/a.cc", '"x.h"'))
        self.assertTrue(self.refused("src/flow/a.cc", "<base/x.h>"))
        self.assertTrue(self.refused("src/flow/a.cc", '"base/absent.h"'))
        self.assertTrue(self.refused("include/toe/a.h", '"base/x.h"'))
        self.assertFalse(self.refused("src/flow/a.cc", "<vector>"))

    def test_unknown_folder(self):
        self.assertEqual(run("check_layers", {"src/misc/a.cc": ""}).returncode, 1)


class Coverage(unittest.TestCase):
    HEAD = "| rule | code | proof |\n|---|---|---|\n"
    TREE = {"src/a/x.cc": "", "src/a/x_test.cc": "TEST(Sum, Adds) {}\n",
            "tests/system/CMakeLists.txt": "system_test(net up\n            down)\n"}

    def found(self, row):
        done = run("check_coverage", {**self.TREE, "docs/rfc-coverage.md": self.HEAD + row + "\n"})
        return done.stdout if done.returncode == 1 else ""

    def test_names_that_exist(self):
        self.assertEqual(self.found("| adds | a/x.cc | Sum.Adds, system.net.down |"), "")

    def test_names_that_do_not(self):
        self.assertIn("no test Sum.Subtracts", self.found("| adds | a/x.cc | Sum.Subtracts |"))
        self.assertIn("no test system.net.off", self.found("| adds | a/x.cc | system.net.off |"))
        self.assertIn("no file a/y.cc", self.found("| adds | a/y.cc | Sum.Adds |"))
        self.assertIn("no proof", self.found("| adds | a/x.cc | |"))

    def test_names_of_defects(self):
        page = "| defect | test |\n|---|---|\n"
        tree = {**self.TREE, "docs/rfc-coverage.md": self.HEAD,
                "tests/model/CMakeLists.txt": "  toe_command_test(odd LEVEL system)\n"}
        good = {"docs/regressions.md": page + "| **A** wrong | Sum.Adds, system.net.up, odd |\n"}
        bad = {"docs/regressions.md": page + "| wrong | Sum.Adds, even |\n| worse | |\n"}
        self.assertEqual(run("check_coverage", {**tree, **good}).returncode, 0)
        found = run("check_coverage", {**tree, **bad}).stdout
        self.assertIn("no test even", found)
        self.assertIn("no test: | worse", found)


class Tidy(unittest.TestCase):
    def setUp(self):
        if run("check_tidy", {}).returncode == 77:
            self.skipTest("universal-ctags is not installed")

    def found(self, path, text):
        done = run("check_tidy", {path: text})
        return done.stdout if done.returncode == 1 else ""

    def test_accepts_plain_code(self):
        self.assertEqual(self.found("src/base/a.cc", "int f() { return 1; }\n"), "")

    def test_sizes(self):
        self.assertIn("line of 101", self.found("src/base/a.cc", "/" * 101 + "\n"))
        self.assertIn("251 lines", self.found("src/base/a.h", "\n" * 251))
        self.assertEqual(self.found("src/base/a.cc", "\n" * 500), "")
        self.assertIn("501 lines", self.found("src/base/a.cc", "\n" * 501))
        self.assertEqual(self.found("src/base/a_test.cc", "\n" * 800), "")
        self.assertIn("801 lines", self.found("tests/sim/a.cc", "\n" * 801))

    def test_functions(self):
        body = "int f() {\n" + "  g();\n" * 68 + "}\n"
        self.assertEqual(self.found("src/base/a.cc", body), "")
        longer = body.replace("}", "  g();\n}")
        self.assertIn("function f has 71 lines", self.found("src/base/a.cc", longer))
        excused = "// tidy: long-function: one table.\n" + longer
        self.assertEqual(self.found("src/base/a.cc", excused), "")

    def test_words(self):
        self.assertIn("TODO", self.found("src/base/a.cc", "// " + "TO" + "DO later\n"))
        self.assertEqual(self.found("src/base/a.cc", "// " + "TO" + "DO(#7): later\n"), "")
        self.assertIn("unbounded", self.found("src/base/a.cc", "sprintf(a, b);\n"))
        self.assertEqual(self.found("src/base/a.cc", "snprintf(a, n, b);\n"), "")

    def test_clocks(self):
        for line in ("usleep(5);", "std::this_thread::sleep_for(x);", "clock_gettime(a, b);",
                     "std::chrono::steady_clock::now();"):
            self.assertIn("a_test.cc:1", self.found("src/base/a_test.cc", line + "\n"))
            self.assertIn("sim/a.cc:1", self.found("tests/sim/a.cc", line + "\n"))
            self.assertIn("protocol.cc:1", self.found("src/datapath/protocol.cc", line + "\n"))
            self.assertEqual(self.found("src/engine/worker.cc", line + "\n"), "")
            excuse = "// tidy: clock: waits for a child.\n"
            self.assertEqual(self.found("src/base/a_test.cc", excuse + line + "\n"), "")
            self.assertIn("no ", self.found("src/datapath/protocol.cc", excuse + line + "\n"))


if __name__ == "__main__":
    unittest.main()
