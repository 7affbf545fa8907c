"""What is in the layers: the base system of busybox, a web server, small programs of our own."""

import subprocess

from layer import Layer

# busybox-static conflicts with busybox as an installed package; side by side in two directories they get along.
PACKAGES = ("busybox-static", "busybox", "libc6", "nginx", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g",
            "util-linux", "libsmartcols1", "libaudit1", "libcap-ng0", "procps", "libproc2-0", "libsystemd0", "libcap2",
            "libgcrypt20", "libgpg-error0", "liblz4-1", "liblzma5", "libzstd1")

PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
mail:x:8:8:mail:/var/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
bin:x:2:
mail:x:8:
www-data:x:33:
users:x:100:
nobody:x:65534:
"""


def base_layer(packages):
    """A small system. Applets are hard links, so that masking one does not mask all; sh is another program, which
    executes what it is told to run instead of running it inside itself."""
    layer = Layer()
    static = packages.file("busybox-static", "bin/busybox")
    layer.copy("/bin/busybox", static)
    applets = subprocess.run([static, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if applet not in ("busybox", "sh", "ash"):
            layer.hard_link(f"/bin/{applet}", "/bin/busybox")
    programs = [("/bin/sh", packages.file("busybox", "bin/busybox")),
                ("/usr/bin/ipcs", packages.file("util-linux", "usr/bin/ipcs")),
                ("/usr/bin/pgrep", packages.file("procps", "usr/bin/pgrep"))]
    add_programs(layer, packages, programs)
    layer.hard_link("/bin/ash", "/bin/sh")
    layer.file("/etc/passwd", PASSWD)
    layer.file("/etc/group", GROUP)
    layer.file("/etc/shadow", "root:*:::::::\n", mode=0o600)
    layer.directory("/root", mode=0o700)
    layer.directory("/tmp", mode=0o1777)
    for path in ("/home", "/var/run", "/var/log", "/var/tmp", "/proc", "/sys", "/dev", "/mnt"):
        layer.directory(path)
    return layer.pack()


def nginx_layer(packages, configuration, port):
    """Debian's web server with a configuration of our own."""
    layer = Layer()
    add_programs(layer, packages, [("/usr/sbin/nginx", packages.file("nginx", "usr/sbin/nginx"))])
    layer.file("/etc/nginx/nginx.conf", configuration.read_text().replace("PORT", str(port)))
    layer.file("/srv/www/index.html", "<html><body>Welcome to nginx</body></html>\n")
    layer.directory("/var/log/nginx")
    layer.directory("/var/lib/nginx")
    layer.directory("/var/run")
    layer.directory("/tmp", mode=0o1777)
    return layer.pack()


def small_layer(files, mode=0o644):
    """A layer of a few files."""
    layer = Layer()
    for path, content in files.items():
        layer.file(path, content, mode)
    return layer.pack()


def add_programs(layer, packages, programs):
    """Programs with all the libraries that they need."""
    for path, source in programs:
        layer.copy(path, source)
        for place, library in packages.libraries(source):
            layer.copy(f"/{place}", library)


def compiled(source, work):
    """A static program, built here from a source of ours."""
    program = work / source.stem
    command = ["gcc", "-Os", "-static", "-s", "-Wl,--build-id=none", "-o", program, source]
    subprocess.run(command, check=True)
    return program.read_bytes()
