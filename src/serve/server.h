/* The server's parts as they see each other. All of it runs on the loop's thread. */
#ifndef VLY_SERVE_SERVER_H
#define VLY_SERVE_SERVER_H

#include "serve/api_error.h"
#include "serve/http.h"
#include "serve/listen.h"
#include "serve/metrics.h"
#include "serve/serve.h"

typedef struct vly_server vly_server;
typedef struct vly_connection vly_connection;
typedef struct vly_completion vly_completion;
typedef struct vly_job vly_job;

/* ---- The server ---- */

typedef enum {
    VLY_SERVER_LOADING,
    VLY_SERVER_READY,
    VLY_SERVER_DRAINING, /* what runs may end, nothing new begins */
    VLY_SERVER_STOPPED
} vly_server_state;

struct vly_server {
    const vly_serve_options *options;
    uv_loop_t loop;
    vly_engine *engine; /* NULL while loading */
    vly_server_state state;
    uint64_t loaded_bytes, total_bytes; /* progress, while loading */
    uint64_t start_ns;                  /* of loading */
    int64_t started_s;                  /* seconds since 1970 */
    uint32_t n_parallel, n_queued;      /* of the engine */
    bool drops_space;  /* a text's first token has a space that is none of the text's */
    vly_error failure; /* why it stops by itself; code 0: it does not */

    vly_text keys; /* terminated, one behind the other */

    vly_listener listeners[VLY_MAX_LISTENERS];
    uint32_t n_listeners;
    vly_connection *connections;
    uint32_t n_connections;
    vly_completion *completions; /* sequences of the engine's, also of clients that went away */
    uint32_t n_jobs;             /* under way, likewise */
    vly_job *waiting;            /* of these, by their next: for one of the threads */
    uint32_t n_threads;          /* that work on the others */

    uv_signal_t signals[2];
    uv_timer_t sweep; /* looks at deadlines, while there are connections or a drain */
    uv_prepare_t before_waiting;
    uint64_t drain_deadline_ns;
    vly_connection *unsent; /* those with something to send, by their next_unsent */
    char read_buffer[65536];

    uint64_t id_prefix, n_requests;
    vly_serve_metrics metrics;
};

/* Ends after what runs, or at the deadline. Called again: at once. */
void vly_server_drain(vly_server *server);

/* Sees to it that deadlines are looked at. */
void vly_server_watch(vly_server *server);

/* After how many seconds a client that was turned away might try again. */
uint32_t vly_server_retry_after(const vly_server *server);

/* To be called when something that a drain waits for has ended. */
void vly_server_check_drained(vly_server *server);

/* ---- Connections ---- */

/* What a connection is doing. */
typedef enum {
    VLY_CONNECTION_IDLE,    /* nothing has come of the next request */
    VLY_CONNECTION_READING, /* its header */
    VLY_CONNECTION_BODY,
    VLY_CONNECTION_ANSWERING,
    VLY_CONNECTION_LINGERING, /* all is said: until the client has read it and closes */
    VLY_CONNECTION_CLOSED
} vly_connection_phase;

/* What is known of a request, for the log. */
typedef struct {
    char id[40]; /* unique; without a prefix */
    vly_peer peer;
    const char *method; /* static */
    char path[64];      /* cut where it is longer */
    uint64_t start_ns;  /* its first byte came */
    int status;         /* of the answer; 0: there is none yet */
    uint64_t n_bytes;   /* of the answer's body */
    /* Of completions. */
    const char *outcome; /* NULL: it was none that ran */
    bool stream;
    double first_token_ms; /* from the request's last byte; 0: none came */
    vly_stats stats;
} vly_request_record;

/* A request being answered. */
typedef struct {
    vly_request_record record;
    bool keep_alive; /* the connection lives on after it */
    bool chunked;    /* a stream, in chunks; else one that ends with the connection */
} vly_exchange;

struct vly_connection {
    vly_server *server;
    vly_connection *previous, *next, *next_unsent;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } uv;
    vly_peer peer;
    vly_connection_phase phase;
    uint64_t deadline_ns; /* of the phase; 0: none */

    vly_http_reader reader;
    vly_text input; /* read, but behind a request that is being answered */
    bool reading;   /* uv_read_start */
    bool processing;
    bool eof; /* the client sends no more */
    bool said_continue;

    vly_exchange exchange;
    vly_job *job;               /* that reads its body, or NULL */
    vly_completion *completion; /* that answers it, or NULL */

    vly_writer pending; /* to be sent */
    vly_text flying;    /* being sent */
    uv_write_t write;
    uv_shutdown_t shutdown;
    bool writing, unsent, closing_after;
    size_t stalled_bytes; /* unsent at the last look */
    uint64_t stalled_ns;  /* since when they are as many */
};

/* uv_listen's callback. */
void vly_connection_accept(uv_stream_t *listener, int status);

/* Ends it now, and cancels what it asked for. */
void vly_connection_close(vly_connection *connection);

/* Looks at its deadlines. */
void vly_connection_check(vly_connection *connection, uint64_t now_ns);

/* Sends what is pending of all connections; once in a turn of the loop. */
void vly_connections_send(vly_server *server);

/* Bytes of answers that are not sent yet. */
size_t vly_connection_unsent(const vly_connection *connection);

/* ---- Answers (each request gets one) ---- */

/* A whole answer. `fields` are header fields besides ("Allow: GET\r\n"), or "". Takes nothing of
 * `body` but its bytes; what failed to be written is answered as an error. */
void vly_reply(vly_connection *connection, int status, const char *content_type,
               const vly_writer *body, const char *fields);
void vly_reply_json(vly_connection *connection, int status, const vly_writer *body);
void vly_reply_error(vly_connection *connection, const vly_api_error *err);

/* A stream of server-sent events: begin, send any number of times, end. */
void vly_stream_begin(vly_connection *connection);
void vly_stream_send(vly_connection *connection, const char *data, size_t n);
/* Where `whole` is false the connection ends too, so that nobody takes the stream for complete. */
void vly_stream_end(vly_connection *connection, bool whole);

/* ---- Work on bodies ---- */

struct vly_job {
    /* In a thread where the body is long: may use the body, what is below in the struct that begins
     * with this one, and of the server only what never changes while it is ready. */
    void (*work)(vly_job *job);
    /* On the loop, last: answers, or begins to. The connection is NULL where the client is gone,
     * and where the work was not done. Frees what `work` left, but not the job. */
    void (*done)(vly_job *job, vly_connection *connection);
    /* Not for those two: */
    vly_job *next;
    vly_server *server;
    vly_connection *connection; /* NULL once the client is gone */
    vly_request_record record;
    vly_text body;
    uv_work_t request;
};

/* Has the body worked on that the connection has read, and then answered: `job` begins a calloc'd
 * struct, which is its own from here on, with work and done set. */
void vly_job_start(vly_connection *connection, vly_job *job);

/* Its client is gone. */
void vly_job_abandon(vly_job *job);

/* ---- Requests ---- */

/* Answers the request that was read, now or later. */
void vly_route(vly_connection *connection);

/* POST /v1/completions and /v1/chat/completions. */
void vly_completion_start(vly_connection *connection);
void vly_chat_completion_start(vly_connection *connection);

/* Why a completion is not wanted any more. */
typedef enum {
    VLY_END_NONE,
    VLY_END_DISCONNECT,
    VLY_END_TIMEOUT,
    VLY_END_SHUTDOWN
} vly_completion_end;

/* Cancels it; with VLY_END_DISCONNECT nothing is answered any more. */
void vly_completion_cancel(vly_completion *completion, vly_completion_end why);

/* The connection took bytes: a paused completion may go on. */
void vly_completion_on_sent(vly_completion *completion);

/* Frees what the engine will not call back any more. */
void vly_completions_free(vly_server *server);

/* POST /tokenize, /detokenize, /apply-template; GET /v1/models, /props. */
void vly_answer_tokenize(vly_connection *connection);
void vly_answer_detokenize(vly_connection *connection);
void vly_answer_apply_template(vly_connection *connection);
void vly_answer_models(vly_connection *connection);
void vly_answer_model(vly_connection *connection);
void vly_answer_props(vly_connection *connection);
void vly_answer_health(vly_connection *connection);
void vly_answer_metrics(vly_connection *connection);

/* ---- The log ---- */

/* One line for a request that is over. */
void vly_log_request(const vly_server *server, const vly_request_record *record);

#endif
