#include "serve/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int fail_errno(vly_error *err, const char *path, const char *what)
{
    int code = errno == ENOENT ? VLY_E_NOT_FOUND : VLY_E_IO;
    return vly_fail(err, code, "%s: %s: %s", path, what, strerror(errno));
}

/* Does somebody listen at the address? 1, 0, or -1 with errno. */
static int probe(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    int rc = connect(fd, (const struct sockaddr *)address, sizeof *address);
    int error = errno;
    close(fd);
    errno = error;
    if (rc == 0 || error == EAGAIN) return 1; /* EAGAIN: more connect than it accepts */
    return error == ECONNREFUSED || error == ENOENT ? 0 : -1;
}

/* Removes the socket of a server that is gone; anything else at the path is an error. */
static int remove_stale(const struct sockaddr_un *address, vly_error *err)
{
    const char *path = address->sun_path;
    struct stat st;
    if (lstat(path, &st)) return errno == ENOENT ? 0 : fail_errno(err, path, "cannot be looked at");
    if (!S_ISSOCK(st.st_mode))
        return vly_fail(err, VLY_E_INVALID, "%s: expected a socket or nothing, found another file",
                        path);
    int listens = probe(address);
    if (listens < 0) return fail_errno(err, path, "cannot be connected to");
    if (listens)
        return vly_fail(err, VLY_E_BUSY, "%s: another server is listening on this socket", path);
    if (unlink(path) && errno != ENOENT) return fail_errno(err, path, "cannot be removed");
    return 0;
}

/* Binds at a free path. Nobody can connect before it listens, so the mode is set in time. */
static int bind_path(int fd, const struct sockaddr_un *address, uint32_t mode, vly_listener *out,
                     vly_error *err)
{
    const char *path = address->sun_path;
    struct stat st;
    if (bind(fd, (const struct sockaddr *)address, sizeof *address))
        return fail_errno(err, path, "cannot be made");
    int rc = 0;
    if (chmod(path, (mode_t)mode) || lstat(path, &st)) {
        rc = fail_errno(err, path, "cannot be given its mode");
    } else if (listen(fd, SOMAXCONN)) {
        rc = fail_errno(err, path, "cannot be listened on");
    } else {
        out->owns_path = true;
        out->device = st.st_dev;
        out->inode = st.st_ino;
        strcpy(out->path, path);
    }
    if (rc) unlink(path);
    return rc;
}

/* The folder that `path` is in, locked: of two servers that start at once one finds the other. */
static int lock_folder(const char *path, int *fd, vly_error *err)
{
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
    strcpy(folder, path);
    char *slash = strrchr(folder, '/');
    if (!slash)
        strcpy(folder, ".");
    else
        slash[slash == folder] = '\0';
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0) return fail_errno(err, folder, "cannot be opened as the socket's folder");
    /* A file system without locks is no reason not to serve. */
    (void)!flock(*fd, LOCK_EX);
    return 0;
}

int vly_listener_open_unix(uv_loop_t *loop, const char *path, uint32_t mode, vly_listener *out,
                           vly_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    *out = (vly_listener){.is_unix = true};
    if (len == 0 || len >= sizeof address.sun_path)
        return vly_fail(err, VLY_E_INVALID,
                        "the socket's path has %zu bytes; expected 1 to %zu, which is what an "
                        "address holds",
                        len, sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, len);
    snprintf(out->name, sizeof out->name, "%s", path);
    int folder, fd;
    int rc = lock_folder(path, &folder, err);
    if (rc) return rc;
    rc = remove_stale(&address, err);
    fd = rc ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (!rc && fd < 0) rc = fail_errno(err, path, "no socket");
    if (!rc) rc = bind_path(fd, &address, mode, out, err);
    close(folder);
    if (!rc) {
        int uv = uv_pipe_init(loop, &out->uv.pipe, 0);
        out->open = uv == 0;
        if (!uv) uv = uv_pipe_open(&out->uv.pipe, fd);
        if (uv) {
            rc = vly_fail(err, VLY_E_IO, "%s: %s", path, uv_strerror(uv));
            vly_listener_close(out);
        }
    }
    if (rc && fd >= 0) close(fd);
    return rc;
}
