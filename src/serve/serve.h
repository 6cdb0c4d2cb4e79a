/* The server: the streaming API of docs/api.md over HTTP/1.1, on a Unix socket and TCP. A client of
 * include/volley.h; one libuv loop carries its connections and the engine. */
#ifndef VLY_SERVE_SERVE_H
#define VLY_SERVE_SERVE_H

#include "base/error.h"

typedef struct {
    /* Where to listen: either may be NULL. Sockets that systemd passed come besides. */
    const char *socket;   /* path */
    uint32_t socket_mode; /* of the path */
    const char *tcp;      /* "PORT" (of 127.0.0.1), "ADDRESS:PORT" or "[ADDRESS]:PORT" */

    /* A file of keys, one a line, of which a request has to bring one; NULL: none is asked for.
     * Without keys only loopback addresses are listened on. */
    const char *api_key_file;

    /* Limits of what clients may do. Times in seconds; 0: no limit. */
    uint32_t max_connections;
    uint32_t max_peer_connections; /* of one process (Unix) or address (TCP) */
    uint32_t max_header_bytes, max_body_bytes;
    uint32_t max_prompt_tokens;  /* 0: what the context holds */
    uint32_t max_buffered_bytes; /* of an answer that its reader is slow to take: then it pauses */
    float header_timeout_s, body_timeout_s; /* from the first byte; from the end of the header */
    float idle_timeout_s;                   /* between requests */
    float write_timeout_s;                  /* in which a reader takes nothing */
    float request_timeout_s;                /* from a request's last byte to its answer's */
    float drain_timeout_s;                  /* from SIGTERM to the end of what then still runs */

    /* Where requests do not say. */
    vly_draft_method draft_method;
    uint32_t draft_max;

    bool log_json;
} vly_serve_options;

/* Default limits, and 0 or NULL for the rest. */
vly_serve_options vly_serve_options_default(void);

/* Listens, loads the engine (its loop and progress are filled in here), and serves until SIGTERM or
 * SIGINT. The socket's path is removed at the end. Errors: those of vly_engine_create;
 * VLY_E_INVALID (an address that is none, a path too long or that is no socket, no place to listen,
 * TCP beyond loopback without keys), VLY_E_BUSY (a server listens there already), VLY_E_IO,
 * VLY_E_DEVICE_LOST. */
int vly_serve(const vly_serve_options *options, const vly_engine_options *engine, vly_error *err);

#endif
