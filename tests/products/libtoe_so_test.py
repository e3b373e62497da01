"""libtoe.so is loaded into programs that nobody built for it: it needs libc and nothing else, and
shows nothing but the names it replaces and toe_*."""
import re
import subprocess
import sys
import unittest

LIBRARY = sys.argv.pop(1)
# A preload library replaces C functions: their names have no capitals but Fortify's.
INTERPOSED = re.compile(r"^(__)?[a-z][a-z0-9_]*$")


def tool(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def exported():
    names = []
    for line in tool("nm", "-D", "--defined-only", LIBRARY).splitlines():
        kind, name = line.split()[-2:]
        if kind != "A":  # the version itself
            names.append(name.split("@")[0])
    return names


class LibtoeSo(unittest.TestCase):
    def test_needs_libc_only(self):
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", tool("readelf", "-dW", LIBRARY))
        self.assertTrue(needed)
        self.assertEqual(set(needed) - {"libc.so.6", "ld-linux-x86-64.so.2"}, set())

    def test_shows_only_c_names(self):
        names = exported()
        self.assertIn("socket", names)
        self.assertIn("epoll_wait", names)
        self.assertEqual([n for n in names if not INTERPOSED.match(n)], [])
        cplusplus = ("_Z", "__cxa", "__gxx", "_Unwind")
        self.assertEqual([n for n in names if n.startswith(cplusplus)], [])

    def test_replaced_names_exist_in_libc(self):
        libc = tool("gcc", "-print-file-name=libc.so.6").strip()
        known = {line.split()[-1].split("@")[0]
                 for line in tool("nm", "-D", "--defined-only", libc).splitlines()}
        unknown = [n for n in exported() if not n.startswith("toe_") and n not in known]
        self.assertEqual(unknown, [], "neither libc's nor toe_*")

    def test_no_text_relocations_and_no_executable_stack(self):
        self.assertNotIn("TEXTREL", tool("readelf", "-dW", LIBRARY))
        stack = re.search(r"GNU_STACK.*", tool("readelf", "-lW", LIBRARY)).group(0)
        self.assertNotIn("RWE", stack)

    def test_has_no_initial_exec_hunger(self):
        # Thread-local storage must fit the reserve the loader keeps for late libraries.
        headers = tool("readelf", "-lW", LIBRARY)
        segment = re.search(r"\n\s+TLS\s+\S+\s+\S+\s+\S+\s+\S+\s+(\S+)", headers)
        self.assertLessEqual(int(segment.group(1), 16) if segment else 0, 1024)


if __name__ == "__main__":
    unittest.main()
