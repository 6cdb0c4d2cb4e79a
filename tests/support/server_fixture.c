#include "tests/support/server_fixture.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void sleep_ms(int ms)
{
    poll(NULL, 0, ms);
}

/* ---- servers ---- */

/* The child's part of starting: does not return. */
static void run_program(const server_fixture *server, const char *const *options, int passed_fd)
{
    enum { MAX_WORDS = 64 };
    const char *program = getenv("VOLLEY"), *words[MAX_WORDS];
    int n = 0, log = open(server->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(log, STDERR_FILENO);
    dup2(log, STDOUT_FILENO);
    if (!program) program = "build/release/volley";
    words[n++] = program;
    words[n++] = "serve";
    if (passed_fd < 0) {
        words[n++] = "--socket";
        words[n++] = server->socket;
    } else {
        char pid[16];
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        setenv("LISTEN_PID", pid, 1);
        setenv("LISTEN_FDS", "1", 1);
        dup2(passed_fd, 3);
    }
    for (int i = 0; options && options[i] && n < MAX_WORDS - 1; i++) words[n++] = options[i];
    words[n] = NULL;
    execv(program, (char *const *)(uintptr_t)words);
    fprintf(stderr, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

static int try_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

static void show_log(const server_fixture *server)
{
    char line[1024];
    FILE *log = fopen(server->log, "r");
    while (log && fgets(line, sizeof line, log)) print_message("# %s", line);
    if (log) fclose(log);
}

/* Is the server ready to answer? */
static bool is_ready(const server_fixture *server)
{
    int fd = try_connect(server->socket);
    if (fd < 0) return false;
    server_client c = {.fd = fd};
    client_send_text(&c, "GET /health HTTP/1.0\r\n\r\n");
    bool ready = client_read_end(&c, PATIENCE_S) && client_status(&c) == 200;
    client_close(&c);
    return ready;
}

void server_start(server_fixture *server, const char *const *options, int passed_fd)
{
    if (passed_fd < 0) {
        strcpy(server->folder, "/tmp/volley-test-XXXXXX");
        assert_non_null(mkdtemp(server->folder));
        snprintf(server->socket, sizeof server->socket, "%s/v.sock", server->folder);
        snprintf(server->log, sizeof server->log, "%s/log", server->folder);
    }
    signal(SIGPIPE, SIG_IGN);
    server->pid = fork();
    if (server->pid == 0) run_program(server, options, passed_fd);
    assert_true(server->pid > 0);
    double until = now_s() + PATIENCE_S;
    while (!is_ready(server)) {
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid || now_s() > until) {
            show_log(server);
            fail_msg("the server does not start");
        }
        sleep_ms(20);
    }
}

int server_stop(server_fixture *server, int signal_number)
{
    int status = 0;
    if (server->pid == 0) return 0;
    kill(server->pid, signal_number);
    waitpid(server->pid, &status, 0);
    server->pid = 0;
    if (WIFSIGNALED(status) && WTERMSIG(status) != signal_number) show_log(server);
    unlink(server->log);
    unlink(server->socket);
    rmdir(server->folder);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

double server_metric(const server_fixture *server, const char *name)
{
    char wanted[128];
    server_client c;
    for (double until = now_s() + PATIENCE_S;; sleep_ms(20)) {
        client_open(&c, server);
        client_send_text(&c, "GET /metrics HTTP/1.0\r\n\r\n");
        if (!client_read_end(&c, PATIENCE_S) || now_s() > until) {
            show_log(server);
            fail_msg("no metrics");
        }
        if (client_status(&c) == 200) break;
        client_close(&c); /* where there are too many connections still */
    }
    snprintf(wanted, sizeof wanted, "\nvolley:%s ", name);
    const char *at = strstr(c.data, wanted);
    if (!at) fail_msg("no metric is called %s", name);
    double value = strtod(at + strlen(wanted), NULL);
    client_close(&c);
    return value;
}

void server_wait_for(const server_fixture *server, const char *name, double value)
{
    double got = NAN;
    for (double until = now_s() + PATIENCE_S; now_s() < until; sleep_ms(5))
        if ((got = server_metric(server, name)) == value) return;
    show_log(server);
    fail_msg("%s: expected %g, got %g", name, value, got);
}

void server_expect_idle(const server_fixture *server)
{
    server_wait_for(server, "num_requests_running", 0);
    server_wait_for(server, "num_requests_waiting", 0);
    server_wait_for(server, "num_requests_paused", 0);
    server_wait_for(server, "kv_pages{model=\"target\",state=\"used\"}", 0);
    server_wait_for(server, "connections", 1);
}

/* ---- clients ---- */

void client_open(server_client *c, const server_fixture *server)
{
    *c = (server_client){.fd = try_connect(server->socket)};
    if (c->fd < 0) fail_msg("%s: %s", server->socket, strerror(errno));
}

void client_close(server_client *c)
{
    if (c->fd >= 0) close(c->fd);
    free(c->data);
    *c = (server_client){.fd = -1};
}

bool client_send(server_client *c, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(c->fd, data, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return false;
        data += sent;
        n -= (size_t)sent;
    }
    return true;
}

bool client_send_text(server_client *c, const char *text)
{
    return client_send(c, text, strlen(text));
}

void client_post(server_client *c, const char *version, const char *path, const char *body)
{
    char head[256];
    snprintf(head, sizeof head, "POST %s HTTP/%s\r\nHost: volley\r\nContent-Length: %zu\r\n\r\n",
             path, version, strlen(body));
    assert_true(client_send_text(c, head));
    assert_true(client_send_text(c, body));
}

/* Reads what there is, waiting until `until` for it; false where nothing came. */
static bool read_some(server_client *c, double until)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    double left = until - now_s();
    if (c->ended || left < 0 || poll(&p, 1, (int)(left * 1000) + 1) <= 0) return false;
    if (c->len + 65536 > c->cap) {
        c->cap = 2 * c->cap + 131072;
        c->data = realloc(c->data, c->cap);
        assert_non_null(c->data);
    }
    ssize_t n = recv(c->fd, c->data + c->len, 65535, 0);
    c->ended = n <= 0;
    if (n > 0) c->len += (size_t)n;
    c->data[c->len] = '\0';
    return n > 0;
}

static int count(const server_client *c, const char *needle)
{
    int n = 0;
    for (const char *at = c->data; at && (at = strstr(at, needle)); at++) n++;
    return n;
}

bool client_read_until(server_client *c, const char *needle, int times, double seconds)
{
    double until = now_s() + seconds;
    while (count(c, needle) < times)
        if (!read_some(c, until)) return false;
    return true;
}

bool client_read_end(server_client *c, double seconds)
{
    double until = now_s() + seconds;
    while (read_some(c, until)) continue;
    if (!c->data) c->data = calloc(1, c->cap = 1);
    return c->ended;
}

int client_status(const server_client *c)
{
    int status = 0;
    for (const char *at = c->data; at && (at = strstr(at, "HTTP/1.1 ")); at++)
        if (atoi(at + 9)) status = atoi(at + 9);
    return status;
}

/* Appends the first choice's text of one JSON object. */
static void append_text(const char *json, size_t n, char *story)
{
    cJSON *object = cJSON_ParseWithLength(json, n);
    const cJSON *choice =
        cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(object, "choices"), 0);
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(choice, "text");
    if (cJSON_IsString(text)) strcat(story, text->valuestring);
    cJSON_Delete(object);
}

char *client_story(const server_client *c)
{
    char *story = calloc(1, c->len + 1);
    assert_non_null(story);
    const char *body = c->data ? strstr(c->data, "\r\n\r\n") : NULL;
    if (!body) return story;
    body += 4;
    if (*body == '{') append_text(body, strlen(body), story);
    for (const char *at = body; (at = strstr(at, "data: {")); at++)
        append_text(at + 6, strcspn(at + 6, "\n"), story);
    return story;
}
