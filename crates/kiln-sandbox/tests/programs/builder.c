/* A builder for tests: does what its arguments say, one after the other, and prints one line for each.
   Statically linked, so that it needs nothing in the sandbox. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void result(const char *what, long value) {
    if (value < 0)
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: ok\n", what);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
    DIR *dir = opendir(path);
    char *names[4096];
    size_t count = 0;
    printf("ls %s:", path);
    if (!dir) {
        printf(" %s\n", strerrorname_np(errno));
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir)) && count < 4096;)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) names[count++] = strdup(entry->d_name);
    qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) printf(" %s", names[i]);
    printf("\n");
    closedir(dir);
}

static void cat(const char *path) {
    char buffer[65536];
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        printf("cat %s: %s\n", path, strerrorname_np(errno));
        return;
    }
    for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) fwrite(buffer, 1, n, stdout);
    close(fd);
}

static void identity(void) {
    struct utsname name;
    struct rlimit core;
    mode_t mask = umask(0);
    umask(mask);
    uname(&name);
    getrlimit(RLIMIT_CORE, &core);
    printf("uid %d gid %d groups %d pid %d\n", getuid(), getgid(), getgroups(0, NULL), getpid());
    printf("host %s domain %s machine %s\n", name.nodename, name.domainname, name.machine);
    printf("umask %03o core %ld personality %x\n", mask, (long)core.rlim_cur, personality(0xffffffff));
    printf("session %d group %d tty %d controlling %d\n", getsid(0) == getpid(), getpgrp() == getpid(), isatty(1),
           open("/dev/tty", O_RDWR));
}

static void descriptors(void) {
    printf("descriptors:");
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0) printf(" %d", fd);
    printf("\n");
    char target[256] = "";
    (void)!readlink("/proc/self/fd/0", target, sizeof target - 1);
    printf("stdin %s\n", target);
    struct termios settings;
    tcgetattr(1, &settings);
    struct stat status;
    fstat(1, &status);
    printf("raw %d mode %o owner %d\n", !(settings.c_oflag & OPOST) && !(settings.c_lflag & (ECHO | ICANON | ISIG)),
           status.st_mode & 07777, status.st_uid);
}

/* Every way to make a set-user-ID file. */
static void set_id(const char *path) {
    int fd = open(path, O_CREAT | O_RDWR, 0755);
    result("chmod", syscall(SYS_chmod, path, 04755));
    result("chmod sgid", syscall(SYS_chmod, path, 02755));
    result("chmod high bits", syscall(SYS_chmod, path, 0x100000000L | 04755));
    result("fchmod", syscall(SYS_fchmod, fd, 04755));
    result("fchmodat", syscall(SYS_fchmodat, AT_FDCWD, path, 04755));
    result("fchmodat2", syscall(452, AT_FDCWD, path, 04755, 0));
    result("fchmodat2 high bits", syscall(452, AT_FDCWD, path, 0x500000000L | 04755, 0));
    result("open", syscall(SYS_open, "a", O_CREAT | O_RDWR, 04755));
    result("open tmpfile", syscall(SYS_open, ".", O_TMPFILE | O_RDWR, 04755));
    result("openat", syscall(SYS_openat, AT_FDCWD, "b", O_CREAT | O_RDWR, 04755));
    result("creat", syscall(SYS_creat, "c", 04755));
    result("mknod", syscall(SYS_mknod, "d", S_IFREG | 04755, 0));
    result("mknodat", syscall(SYS_mknodat, AT_FDCWD, "e", S_IFREG | 04755, 0));
    struct { unsigned long long flags, mode, resolve; } how = {O_CREAT | O_RDWR, 04755, 0};
    result("openat2", syscall(437, AT_FDCWD, "f", &how, sizeof how));
    result("plain chmod", syscall(SYS_chmod, path, 0700));
    result("sticky chmod", syscall(SYS_chmod, ".", 01777));
#ifdef __x86_64__
    /* 32-bit calls from a 64-bit program; the path must be below 4 GiB. */
    char *low = (char *)syscall(SYS_mmap, 0x10000000, 4096, 3, 0x22 | 0x10, -1, 0);
    strcpy(low, path);
    long value;
    __asm__ volatile("int $0x80" : "=a"(value) : "a"(15), "b"(low), "c"(04755) : "memory");
    errno = -value;
    result("int80 chmod", value);
    __asm__ volatile("int $0x80" : "=a"(value) : "a"(452), "b"(-100), "c"(low), "d"(04755), "S"(0) : "memory");
    errno = -value;
    result("int80 fchmodat2", value);
    __asm__ volatile("int $0x80" : "=a"(value) : "a"(359), "b"(40), "c"(1), "d"(0) : "memory");
    errno = -value;
    result("int80 vsock", value);
    __asm__ volatile("int $0x80" : "=a"(value) : "a"(20) : "memory");
    result("int80 getpid", value);
    result("x32 getpid", syscall(0x40000000 | 39));
#endif
    struct stat status;
    stat(path, &status);
    printf("mode %o\n", status.st_mode & 07777);
}

static void denied(const char *path) {
    char buffer[64];
    result("setxattr", setxattr(path, "user.a", "b", 1, 0));
    result("getxattr", getxattr(path, "user.a", buffer, sizeof buffer));
    result("listxattr", listxattr(path, buffer, sizeof buffer));
    result("setxattrat", syscall(463, AT_FDCWD, path, 0, "user.a", buffer, 16));
    result("io_uring_setup", syscall(425, 1, buffer));
    result("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    result("bpf", syscall(SYS_bpf, 0, buffer, sizeof buffer));
    result("userfaultfd", syscall(SYS_userfaultfd, 1));
    result("perf_event_open", syscall(SYS_perf_event_open, buffer, 0, -1, -1, 0));
    result("TIOCSTI", ioctl(1, TIOCSTI, "x"));
    result("TIOCSTI high bits", syscall(SYS_ioctl, 1, 0x100000000L | TIOCSTI, "x"));
    result("vsock", socket(40, SOCK_STREAM, 0));
    result("alg", socket(38, SOCK_SEQPACKET, 0));
    result("netlink audit", socket(AF_NETLINK, SOCK_RAW, 9));
    result("unix", socket(AF_UNIX, SOCK_STREAM, 0));
    result("inet", socket(AF_INET, SOCK_STREAM, 0));
    result("inet6", socket(AF_INET6, SOCK_DGRAM, 0));
    result("route", socket(AF_NETLINK, SOCK_RAW, 0));
    result("mknod device", mknod("device", S_IFCHR | 0600, 0x103));
    result("mount", mount("none", "/tmp", "tmpfs", 0, ""));
    result("umount", umount2("/proc", MNT_DETACH));
    result("sethostname", sethostname("x", 1));
    result("chroot", chroot("/"));
    result("write sysrq", open("/proc/sysrq-trigger", O_WRONLY));
    result("read kcore", open("/proc/kcore", O_RDONLY) < 0 ? -1 : read(open("/proc/kcore", O_RDONLY), buffer, 1) - 1);
}

static void loopback(void) {
    struct if_nameindex *all = if_nameindex();
    printf("interfaces:");
    for (struct if_nameindex *i = all; i && i->if_index; i++) printf(" %s", i->if_name);
    printf("\n");
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    bind(server, (struct sockaddr *)&address, length);
    listen(server, 1);
    getsockname(server, (struct sockaddr *)&address, &length);
    result("loopback", connect(client, (struct sockaddr *)&address, length));
    address.sin_addr.s_addr = htonl(0x08080808);
    result("outside", connect(socket(AF_INET, SOCK_DGRAM, 0), (struct sockaddr *)&address, length));
}

/* Which network this is: numbers that the kernel never gives twice. */
static void network(void) {
    unsigned long long cookie = 0;
    socklen_t length = sizeof cookie;
    getsockopt(socket(AF_INET, SOCK_DGRAM, 0), SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &cookie, &length);
    printf("network %llu\n", cookie);
}

static void datagram(const char *to) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = inet_addr(to)};
    result("datagram", sendto(socket(AF_INET, SOCK_DGRAM, 0), "x", 1, 0, (struct sockaddr *)&address, sizeof address));
}

static void abstract(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path + 1, name, sizeof address.sun_path - 2);
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
    result("abstract", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, length));
}

/* Leaves a process behind in every way there is; all of them want to have a file locked. */
static void linger(const char *path) {
    for (int way = 0; way < 3; way++) {
        if (fork()) continue;
        if (way >= 1) setsid();
        if (way >= 2 && fork()) _exit(0);
        for (int signal = 1; signal < 32; signal++) sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
        prctl(PR_SET_PDEATHSIG, 0);
        int fd = open(path, O_CREAT | O_RDWR, 0666);
        lockf(fd, F_LOCK, 0);
        for (;;) pause();
    }
    /* Until one of them has it. */
    int fd = open(path, O_CREAT | O_RDWR, 0666);
    while (!lockf(fd, F_TEST, 0)) usleep(1000);
    close(fd);
}

static void stubborn(const char *path) {
    for (int signal = 1; signal < 32; signal++) sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    prctl(PR_SET_PDEATHSIG, 0);
    int fd = open(path, O_CREAT | O_RDWR, 0666);
    lockf(fd, F_LOCK, 0);
    printf("ready\n");
    fflush(stdout);
    for (;;) pause();
}

static void burn(int milliseconds) {
    /* In a grandchild, to see that descendants count. */
    pid_t child = fork();
    if (!child) {
        while (clock() < (clock_t)milliseconds * CLOCKS_PER_SEC / 1000) {}
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void nested(void) {
    result("unshare", unshare(CLONE_NEWUSER | CLONE_NEWNS));
    /* What was mounted before must not come off. */
    result("unmount", umount2("/etc", MNT_DETACH) < 0 ? umount2("/proc/sys", 0) : 0);
    result("unmount store", umount2("/nix/store", 0));
    result("writable store", mount(NULL, "/nix/store/input-directory", NULL, MS_REMOUNT | MS_BIND, NULL));
}

int main(int argc, char **argv, char **envp) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        char *word = argv[i], *value = strchr(word, '=');
        if (value) *value++ = 0;
        if (!strcmp(word, "env")) for (char **variable = envp; *variable; variable++) printf("%s\n", *variable);
        else if (!strcmp(word, "argv0")) printf("argv0 %s\n", argv[0]);
        else if (!strcmp(word, "cwd")) printf("cwd %s\n", getcwd(NULL, 0));
        else if (!strcmp(word, "ls")) list(value);
        else if (!strcmp(word, "cat")) cat(value);
        else if (!strcmp(word, "identity")) identity();
        else if (!strcmp(word, "descriptors")) descriptors();
        else if (!strcmp(word, "set-id")) set_id(value);
        else if (!strcmp(word, "denied")) denied(value);
        else if (!strcmp(word, "loopback")) loopback();
        else if (!strcmp(word, "network")) network();
        else if (!strcmp(word, "datagram")) datagram(value);
        else if (!strcmp(word, "abstract")) abstract(value);
        else if (!strcmp(word, "linger")) linger(value);
        else if (!strcmp(word, "stubborn")) stubborn(value);
        else if (!strcmp(word, "burn")) burn(atoi(value));
        else if (!strcmp(word, "nested")) nested();
        else if (!strcmp(word, "stack")) printf("stack %p\n", (void *)&word);
        else if (!strcmp(word, "write")) {
            int fd = open(value, O_CREAT | O_WRONLY, 0666);
            result("write", fd < 0 ? -1 : write(fd, "x", 1));
        } else if (!strcmp(word, "readlink")) {
            char target[256] = "";
            (void)!readlink(value, target, sizeof target - 1);
            printf("link %s\n", target);
        } else if (!strcmp(word, "stat")) {
            struct stat status;
            if (lstat(value, &status)) printf("stat: %s\n", strerrorname_np(errno));
            else printf("stat: mode %o uid %d gid %d\n", status.st_mode, status.st_uid, status.st_gid);
        } else if (!strcmp(word, "sleep")) usleep(atoi(value) * 1000);
        else if (!strcmp(word, "close")) { close(0); close(1); close(2); }
        else if (!strcmp(word, "kill")) raise(atoi(value)), signal(atoi(value), SIG_DFL);
        else if (!strcmp(word, "abort")) { kill(getpid(), SIGABRT); __builtin_trap(); }
        else if (!strcmp(word, "exit")) exit(atoi(value));
        else { printf("unknown word %s\n", word); exit(99); }
    }
    return 0;
}
