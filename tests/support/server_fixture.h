/* Servers that run beside a test, and clients that speak to them as badly as they like. Whatever
 * goes wrong here fails the test. */
#ifndef TESTS_SERVER_FIXTURE_H
#define TESTS_SERVER_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PATIENCE_S 400.0 /* for what comes in a moment, or never */
/* A model whose text no machine comes to the end of, minutes, before a test is done with it. */
#define ENDLESS_MODEL "synthetic:dim=64,layers=2,heads=4,kv_heads=2,ff=96,vocab=600,ctx=200000:q8_0"

typedef struct {
    pid_t pid; /* 0: none runs */
    char folder[64], socket[96], log[96];
} server_fixture;

/* Starts `volley serve --socket SOCKET OPTION...` ($VOLLEY, or the release build's) in a folder of
 * its own and waits until it is ready. `passed_fd`: a listening socket that it gets as systemd
 * would pass it, in place of --socket; -1: none. */
void server_start(server_fixture *server, const char *const *options, int passed_fd);
/* Sends the signal, waits for the end and returns the exit status, or 128 + the number of the
 * signal that ended it. Removes its folder. */
int server_stop(server_fixture *server, int signal_number);

/* The value of a metric, with its labels where it has some; fails where there is none. */
double server_metric(const server_fixture *server, const char *name);
/* Waits until a metric is `value`; fails where that does not come. */
void server_wait_for(const server_fixture *server, const char *name, double value);
/* Waits until nothing runs, no page is held and no connection is open but the one that asks. */
void server_expect_idle(const server_fixture *server);

/* A connection, and what has come from it. */
typedef struct {
    int fd;
    char *data; /* terminated */
    size_t len, cap;
    bool ended; /* by the server */
} server_client;

void client_open(server_client *client, const server_fixture *server);
void client_close(server_client *client);
/* All of it; false where the server does not take it any more. */
bool client_send(server_client *client, const char *data, size_t n);
bool client_send_text(server_client *client, const char *text);
/* A whole request with a JSON body. Over HTTP/1.0 the answer is not chunked and ends with the
 * connection. */
void client_post(server_client *client, const char *version, const char *path, const char *body);

/* Reads until `needle` has come `times` times; false at the end of the stream before, or after
 * `seconds`. */
bool client_read_until(server_client *client, const char *needle, int times, double seconds);
/* Reads to the end; false where that does not come in `seconds`. */
bool client_read_end(server_client *client, double seconds);

/* The status of the (last) answer, 0 for none. */
int client_status(const server_client *client);
/* The text of all events that have come, or of a whole answer: malloc'd. */
char *client_story(const server_client *client);

#endif
