/* Sockets to listen on, and who connects to them. */
#ifndef VLY_SERVE_LISTEN_H
#define VLY_SERVE_LISTEN_H

#include "base/error.h"

#include <sys/types.h>
#include <uv.h>

#define VLY_MAX_LISTENERS 16

/* A listening socket. */
typedef struct {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } uv;
    bool is_unix, open;
    char name[160]; /* for people: a path, or an address with its port */
    /* Of a path that was made here, to remove no other one. */
    bool owns_path;
    dev_t device;
    ino_t inode;
    char path[108];
} vly_listener;

/* "8080" (of 127.0.0.1), "127.0.0.1:8080", "[::1]:8080". VLY_E_INVALID. */
int vly_tcp_address_parse(const char *text, struct sockaddr_storage *out, vly_error *err);

/* Opens a listener each, not listening yet (vly_listener_start does it). What fails leaves nothing
 * behind. `mode`: the permissions of the path. A socket that nobody listens on is replaced; errors:
 * VLY_E_INVALID (path too long: how long it may be; no socket), VLY_E_BUSY (somebody listens),
 * VLY_E_IO. */
int vly_listener_open_unix(uv_loop_t *loop, const char *path, uint32_t mode, vly_listener *out,
                           vly_error *err);
/* `address` as in vly_serve_options. `loopback_only`: VLY_E_INVALID for any other. */
int vly_listener_open_tcp(uv_loop_t *loop, const char *address, bool loopback_only,
                          vly_listener *out, vly_error *err);
/* The sockets that systemd passed (LISTEN_FDS), up to `max`: *n of them, 0 without systemd. */
int vly_listener_open_passed(uv_loop_t *loop, bool loopback_only, vly_listener *out, uint32_t max,
                             uint32_t *n, vly_error *err);

/* `on_connection` is called as uv_listen's; the handle's data is the caller's to set. */
int vly_listener_start(vly_listener *listener, uv_connection_cb on_connection, vly_error *err);

/* Ends listening and removes the path that it made. */
void vly_listener_close(vly_listener *listener);

/* Tells systemd how the service is ("READY=1"), where it asks for that (NOTIFY_SOCKET). */
void vly_notify_systemd(const char *state);

/* Who is at the other end: a process, or an address. */
typedef struct {
    bool is_unix;
    int64_t pid, uid;
    char address[64]; /* TCP: without the port */
} vly_peer;

/* Of an accepted connection. What cannot be told is -1, or empty. */
void vly_peer_read(const uv_stream_t *stream, bool is_unix, vly_peer *out);
bool vly_peer_same(const vly_peer *a, const vly_peer *b);

#endif
