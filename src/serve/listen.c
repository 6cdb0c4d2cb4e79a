#include "serve/listen.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- TCP ---- */

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *in6 = (const void *)address;
    return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static int refuse_beyond_loopback(const char *name, vly_error *err)
{
    return vly_fail(err, VLY_E_INVALID,
                    "%s can be reached from other machines: expected a loopback address, or a file "
                    "of keys besides",
                    name);
}

int vly_tcp_address_parse(const char *text, struct sockaddr_storage *out, vly_error *err)
{
    char host[64] = "127.0.0.1";
    const char *port = strrchr(text, ':'), *end = port;
    if (port) {
        const char *start = text;
        if (*start == '[' && end > start && end[-1] == ']') {
            start++;
            end--;
        }
        size_t len = (size_t)(end - start);
        /* What does not fit is no address. */
        if (len >= sizeof host) len = 0;
        memcpy(host, start, len);
        host[len] = '\0';
    }
    port = port ? port + 1 : text;
    char *rest;
    errno = 0;
    unsigned long number = strtoul(port, &rest, 10);
    bool is_port = *port >= '0' && *port <= '9' && !*rest && !errno && number <= 65535;
    if (!is_port || (uv_ip4_addr(host, (int)number, (struct sockaddr_in *)out) &&
                     uv_ip6_addr(host, (int)number, (struct sockaddr_in6 *)out)))
        return vly_fail(err, VLY_E_INVALID,
                        "expected PORT, ADDRESS:PORT or [ADDRESS]:PORT in numbers, got '%s'", text);
    return 0;
}

/* The address that the socket has in the end, with the port that 0 stood for. */
static void name_tcp(vly_listener *listener)
{
    struct sockaddr_storage address;
    char host[64] = "?";
    int len = sizeof address, port = 0;
    if (uv_tcp_getsockname(&listener->uv.tcp, (struct sockaddr *)&address, &len)) return;
    bool v6 = address.ss_family == AF_INET6;
    if (v6) {
        uv_ip6_name((struct sockaddr_in6 *)&address, host, sizeof host);
        port = ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    } else {
        uv_ip4_name((struct sockaddr_in *)&address, host, sizeof host);
        port = ntohs(((struct sockaddr_in *)&address)->sin_port);
    }
    snprintf(listener->name, sizeof listener->name, v6 ? "[%s]:%d" : "%s:%d", host, port);
}

int vly_listener_open_tcp(uv_loop_t *loop, const char *address, bool loopback_only,
                          vly_listener *out, vly_error *err)
{
    struct sockaddr_storage where = {0};
    *out = (vly_listener){.is_unix = false};
    int rc = vly_tcp_address_parse(address, &where, err);
    if (rc) return rc;
    if (loopback_only && !is_loopback((struct sockaddr *)&where))
        return refuse_beyond_loopback(address, err);
    int uv = uv_tcp_init(loop, &out->uv.tcp);
    out->open = uv == 0;
    if (!uv) uv = uv_tcp_bind(&out->uv.tcp, (struct sockaddr *)&where, 0);
    /* bind's own failure is kept by libuv until it listens. */
    if (!uv) name_tcp(out);
    if (uv) {
        rc = vly_fail(err, VLY_E_IO, "%s: %s", address, uv_strerror(uv));
        vly_listener_close(out);
    }
    return rc;
}

/* ---- systemd ---- */

/* How many sockets were passed to this process, and not to another that it descends from. */
static uint32_t count_passed(void)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    long n = fds && pid && strtol(pid, NULL, 10) == getpid() ? strtol(fds, NULL, 10) : 0;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return n > 0 && n < 1024 ? (uint32_t)n : 0;
}

static int open_passed(uv_loop_t *loop, int fd, bool loopback_only, vly_listener *out,
                       vly_error *err)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    int type = 0, listens = 0;
    socklen_t size = sizeof type;
    *out = (vly_listener){.is_unix = false};
    if (getsockname(fd, (struct sockaddr *)&address, &len) ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) || type != SOCK_STREAM ||
        !listens)
        return vly_fail(err, VLY_E_INVALID,
                        "descriptor %d that was passed is not a listening stream socket", fd);
    out->is_unix = address.ss_family == AF_UNIX;
    int uv;
    if (out->is_unix) {
        const struct sockaddr_un *un = (const void *)&address;
        size_t n = len - offsetof(struct sockaddr_un, sun_path);
        snprintf(out->name, sizeof out->name, "%.*s", (int)n, un->sun_path);
        uv = uv_pipe_init(loop, &out->uv.pipe, 0);
        if (!uv) uv = uv_pipe_open(&out->uv.pipe, fd);
    } else {
        if (address.ss_family != AF_INET && address.ss_family != AF_INET6)
            return vly_fail(err, VLY_E_INVALID, "descriptor %d that was passed is of family %d", fd,
                            address.ss_family);
        uv = uv_tcp_init(loop, &out->uv.tcp);
        if (!uv) uv = uv_tcp_open(&out->uv.tcp, fd);
        if (!uv) name_tcp(out);
    }
    out->open = true;
    int rc = 0;
    if (uv)
        rc = vly_fail(err, VLY_E_IO, "descriptor %d that was passed: %s", fd, uv_strerror(uv));
    else if (!out->is_unix && loopback_only && !is_loopback((struct sockaddr *)&address))
        rc = refuse_beyond_loopback(out->name, err);
    if (rc) vly_listener_close(out);
    return rc;
}

int vly_listener_open_passed(uv_loop_t *loop, bool loopback_only, vly_listener *out, uint32_t max,
                             uint32_t *n, vly_error *err)
{
    enum { FIRST_FD = 3 };
    uint32_t n_passed = count_passed();
    *n = 0;
    if (n_passed > max)
        return vly_fail(err, VLY_E_INVALID, "%u sockets were passed; expected at most %u", n_passed,
                        max);
    while (*n < n_passed) {
        int rc = open_passed(loop, FIRST_FD + (int)*n, loopback_only, &out[*n], err);
        if (rc) {
            while (*n > 0) vly_listener_close(&out[--*n]);
            return rc;
        }
        ++*n;
    }
    return 0;
}

void vly_notify_systemd(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    if (len == 0 || len >= sizeof address.sun_path) return;
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') address.sun_path[0] = '\0'; /* an abstract address */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    /* Whoever asked for it and does not listen is not told. */
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}

/* ---- listening ---- */

int vly_listener_start(vly_listener *listener, uv_connection_cb on_connection, vly_error *err)
{
    int uv = uv_listen(&listener->uv.stream, SOMAXCONN, on_connection);
    if (!uv) return 0;
    return vly_fail(err, uv == UV_EADDRINUSE ? VLY_E_BUSY : VLY_E_IO, "%s: cannot listen: %s",
                    listener->name, uv_strerror(uv));
}

void vly_listener_close(vly_listener *listener)
{
    struct stat st;
    if (listener->open && !uv_is_closing(&listener->uv.handle))
        uv_close(&listener->uv.handle, NULL);
    listener->open = false;
    /* Another server may have replaced it, after this one was taken for dead. */
    if (listener->owns_path && lstat(listener->path, &st) == 0 && st.st_dev == listener->device &&
        st.st_ino == listener->inode)
        unlink(listener->path);
    listener->owns_path = false;
}

/* ---- peers ---- */

void vly_peer_read(const uv_stream_t *stream, bool is_unix, vly_peer *out)
{
    *out = (vly_peer){.is_unix = is_unix, .pid = -1, .uid = -1};
    uv_os_fd_t fd;
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    if (is_unix) {
        if (uv_fileno((const uv_handle_t *)stream, &fd) == 0 &&
            getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
            out->pid = credentials.pid;
            out->uid = credentials.uid;
        }
        return;
    }
    struct sockaddr_storage address;
    int len = sizeof address;
    if (uv_tcp_getpeername((const uv_tcp_t *)stream, (struct sockaddr *)&address, &len)) return;
    if (address.ss_family == AF_INET6)
        uv_ip6_name((struct sockaddr_in6 *)&address, out->address, sizeof out->address);
    else
        uv_ip4_name((struct sockaddr_in *)&address, out->address, sizeof out->address);
}

bool vly_peer_same(const vly_peer *a, const vly_peer *b)
{
    return a->is_unix == b->is_unix && a->pid == b->pid && a->uid == b->uid &&
           strcmp(a->address, b->address) == 0;
}
