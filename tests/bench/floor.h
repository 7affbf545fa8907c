/* What floor.c needs of the kernel: files, the mount calls, and the few netlink messages that make a pod's network. */
#ifndef FLOOR_H
#define FLOOR_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The C library's header for mount(2) can't stand beside the kernel's for the newer calls. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define MNT_DETACH 2

static inline _Noreturn void fail(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static inline long must(long result, const char *what) {
    if (result < 0)
        fail(what);
    return result;
}

static inline FILE *must_file(FILE *file, const char *what) {
    if (!file)
        fail(what);
    return file;
}

static inline uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- files ---- */

static inline void put(const char *directory, const char *name, const char *value) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = must(open(path, O_WRONLY | O_CLOEXEC), path);
    must(write(file, value, strlen(value)), path);
    close(file);
}

static inline void write_file(const char *path, size_t size) {
    char content[2000] = {1};
    int file = must(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644), path);
    must(write(file, content, size), path);
    close(file);
}

static inline void copy(const char *from, const char *to, mode_t mode) {
    char content[65536];
    int source = must(open(from, O_RDONLY | O_CLOEXEC), from);
    int target = must(open(to, O_CREAT | O_WRONLY | O_CLOEXEC, mode), to);
    ssize_t size;
    while ((size = must(read(source, content, sizeof content), from)) > 0)
        must(write(target, content, (size_t)size), to);
    close(source);
    close(target);
}

/* ---- mounts ---- */

static inline int fs_open(const char *kind) {
    return (int)syscall(SYS_fsopen, kind, FSOPEN_CLOEXEC);
}

static inline long fs_set(int context, const char *key, const char *value) {
    return syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, value, 0);
}

static inline long fs_flag(int context, const char *key) {
    return syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, key, NULL, 0);
}

/* Makes the file system and a mount of it that is nowhere yet. */
static inline int mount_detached(int context, unsigned attributes) {
    must(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "fsconfig");
    int tree = must(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes), "fsmount");
    close(context);
    return tree;
}

static inline int tree_clone(const char *path) {
    return (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

/* What a kernel does not have can't be masked. */
static inline int is_there(int root, const char *path) {
    return faccessat(root, path, F_OK, 0) == 0;
}

static inline void attach(int tree, int root, const char *path) {
    must(syscall(SYS_move_mount, tree, "", root, path, MOVE_MOUNT_F_EMPTY_PATH), path);
    close(tree);
}

static inline void bind_read_only(int root, const char *path) {
    int tree = must(syscall(SYS_open_tree, root, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | 0x8000 /* recursive */), path);
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    must(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | 0x8000, &attributes, sizeof attributes), path);
    attach(tree, root, path);
}

/* ---- netlink ---- */

struct message {
    char bytes[4096];
    size_t length;
    struct nlmsghdr *header;
    int count;
};

static inline int netlink_open(void) {
    int one = 1, file = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "netlink");
    setsockopt(file, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
    return file;
}

static inline void *begin(struct message *message, int type, int flags, size_t size) {
    message->length = NLMSG_ALIGN(message->length);
    message->header = (struct nlmsghdr *)(message->bytes + message->length);
    memset(message->header, 0, NLMSG_SPACE(size));
    message->header->nlmsg_type = (uint16_t)type;
    message->header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    message->header->nlmsg_len = (uint32_t)NLMSG_LENGTH(size);
    message->length += NLMSG_SPACE(size);
    message->count++;
    return NLMSG_DATA(message->header);
}

static inline void *append(struct message *message, const void *data, size_t size) {
    void *place = message->bytes + message->length;
    if (data)
        memcpy(place, data, size);
    message->length += NLMSG_ALIGN(size);
    message->header->nlmsg_len = (uint32_t)((char *)message->bytes + message->length - (char *)message->header);
    return place;
}

static inline struct rtattr *attribute(struct message *message, int type, const void *data, size_t size) {
    struct rtattr header = {.rta_len = (uint16_t)RTA_LENGTH(size), .rta_type = (uint16_t)type};
    struct rtattr *place = append(message, &header, sizeof header);
    if (size)
        append(message, data, size);
    return place;
}

static inline void end(struct message *message, struct rtattr *outer) {
    outer->rta_len = (uint16_t)(message->bytes + message->length - (char *)outer);
}

/* Sends the whole batch and reads every answer. */
static inline void exchange(int file, struct message *message, const char *what) {
    char answers[8192];
    must(send(file, message->bytes, message->length, 0), what);
    while (message->count > 0) {
        size_t size = (size_t)must(recv(file, answers, sizeof answers, 0), what);
        for (struct nlmsghdr *header = (struct nlmsghdr *)answers; NLMSG_OK(header, size); header = NLMSG_NEXT(header, size)) {
            struct nlmsgerr *error = NLMSG_DATA(header);
            if (header->nlmsg_type == NLMSG_ERROR && error->error) {
                errno = -error->error;
                fail(what);
            }
            message->count--;
        }
    }
}

static inline int netlink_bridge(const char *name) {
    struct message message = {.length = 0};
    struct ifinfomsg *link = begin(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *link);
    link->ifi_flags = link->ifi_change = IFF_UP;
    attribute(&message, IFLA_IFNAME, name, strlen(name) + 1);
    struct rtattr *kind = attribute(&message, IFLA_LINKINFO, NULL, 0);
    attribute(&message, IFLA_INFO_KIND, "bridge", 6);
    end(&message, kind);
    int file = netlink_open();
    exchange(file, &message, "bridge");
    close(file);
    return (int)if_nametoindex(name);
}

static inline void netlink_remove(const char *name) {
    struct message message = {.length = 0};
    struct ifinfomsg *link = begin(&message, RTM_DELLINK, 0, sizeof *link);
    link->ifi_index = (int)if_nametoindex(name);
    int file = netlink_open();
    exchange(file, &message, "removal of the bridge");
    close(file);
}

/* One message makes both ends; the pod's is born in its namespace. */
static inline void netlink_pair(int file, const char *name, int master, int net) {
    struct message message = {.length = 0};
    struct ifinfomsg *link = begin(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *link);
    link->ifi_flags = link->ifi_change = IFF_UP;
    attribute(&message, IFLA_IFNAME, name, strlen(name) + 1);
    attribute(&message, IFLA_MASTER, &master, sizeof master);
    struct rtattr *outer = attribute(&message, IFLA_LINKINFO, NULL, 0);
    attribute(&message, IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = attribute(&message, IFLA_INFO_DATA, NULL, 0);
    struct rtattr *peer = attribute(&message, VETH_INFO_PEER, NULL, 0);
    struct ifinfomsg inside = {.ifi_family = AF_UNSPEC};
    append(&message, &inside, sizeof inside);
    attribute(&message, IFLA_IFNAME, "eth0", 5);
    attribute(&message, IFLA_NET_NS_FD, &net, sizeof net);
    end(&message, peer);
    end(&message, data);
    end(&message, outer);
    exchange(file, &message, "veth");
}

static inline void up(struct message *message, int index) {
    struct ifinfomsg *link = begin(message, RTM_NEWLINK, 0, sizeof *link);
    link->ifi_index = index;
    link->ifi_flags = link->ifi_change = IFF_UP;
}

/* In a fresh namespace loopback is link 1 and the next one link 2. */
static inline void netlink_configure(int file, unsigned number) {
    struct message message = {.length = 0};
    uint32_t address = htonl(0x0a590002u + number % 60000u), gateway = htonl(0x0a590001u);
    up(&message, 1);
    up(&message, 2);
    struct ifaddrmsg *own = begin(&message, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof *own);
    own->ifa_family = AF_INET;
    own->ifa_prefixlen = 16;
    own->ifa_index = 2;
    attribute(&message, IFA_LOCAL, &address, sizeof address);
    attribute(&message, IFA_ADDRESS, &address, sizeof address);
    struct rtmsg *route = begin(&message, RTM_NEWROUTE, NLM_F_CREATE, sizeof *route);
    route->rtm_family = AF_INET;
    route->rtm_table = RT_TABLE_MAIN;
    route->rtm_protocol = RTPROT_STATIC;
    route->rtm_scope = RT_SCOPE_UNIVERSE;
    route->rtm_type = RTN_UNICAST;
    attribute(&message, RTA_GATEWAY, &gateway, sizeof gateway);
    exchange(file, &message, "addresses");
}

#endif
