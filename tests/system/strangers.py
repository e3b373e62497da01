"""Programs of other users: copies that any user may run, and what the kernel says of processes."""
import os
import shutil

from harness import FLEXTOE, check, client_program

NOBODY = 65534


def install(bed, *clients):
    """The products and some test programs in a place where every user can run them."""
    place = os.path.join(bed.lab.directory, "installed")
    if not os.path.isdir(place):
        os.makedirs(os.path.join(place, "bin"))
        os.makedirs(os.path.join(place, "lib"))
        shutil.copy(FLEXTOE, os.path.join(place, "bin"))
        library = os.path.join(os.path.dirname(FLEXTOE), "..", "lib", "libtoe.so")
        shutil.copy(library, os.path.join(place, "lib"))
    for name in clients:
        shutil.copy(client_program(name), os.path.join(place, "bin"))
    return os.path.join(place, "bin")


def as_user(argv, uid=NOBODY, gid=NOBODY):
    return ["setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups",
            "--inh-caps=-all", "--no-new-privs", *argv]


def under_engine(bed, argv, uid=NOBODY, gid=NOBODY):
    """`argv` on the server side, offloaded, as another user. The program is one of install()'s, or
    of the system's."""
    places = install(bed)
    own = os.path.join(places, argv[0])
    program = own if os.path.exists(own) else argv[0]
    return as_user([os.path.join(places, "flextoe"), "exec", "--strict", "--", program, *argv[1:]],
                   uid, gid)


def threads(pid):
    """What /proc says of each thread: a list of dictionaries of its status lines."""
    found = []
    for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        with open(f"/proc/{pid}/task/{task}/status") as file:
            pairs = (line.split(":", 1) for line in file)
            found.append({name: value.strip() for name, value in pairs})
    check(found, f"process {pid} has no thread")
    return found


def capabilities(thread):
    """The numbers of the permitted and effective capabilities, which must be the same."""
    check(thread["CapPrm"] == thread["CapEff"], f"permitted is not effective: {thread}")
    bits = int(thread["CapEff"], 16)
    return {number for number in range(64) if bits >> number & 1}
