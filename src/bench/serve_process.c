/* The server that a bench starts: this program again. */
#include "bench/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_MS 50

/* Does not return. */
static void run_server(const vly_bench_server *server, char **words, pid_t parent)
{
    int log = open(server->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (log >= 0) {
        dup2(log, STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
    }
    /* It is not to outlive whoever measures it. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == parent) execv("/proc/self/exe", words);
    fprintf(stderr, "cannot run the server: %s\n", strerror(errno));
    _exit(1);
}

/* The last two lines of the log, to `out` [n]: what was wrong, and what might help. */
static void read_last_lines(const char *path, char *out, size_t n)
{
    char last[2][256] = {"", ""};
    int k = 0;
    FILE *file = fopen(path, "re");
    while (file && fgets(last[k], sizeof last[k], file)) k = !k;
    if (file) fclose(file);
    for (int i = 0; i < 2; i++) last[i][strcspn(last[i], "\n")] = '\0';
    snprintf(out, n, "%s%s%s", last[k], last[k][0] ? "; " : "", last[!k]);
}

/* 1: it is ready; 0: not yet; or an error. */
static int check(vly_bench_server *server, vly_http_client *client, vly_error *err)
{
    char lines[600];
    int status;
    vly_text body = {0};
    if (vly_bench_interrupted()) return vly_fail(err, VLY_E_CANCELLED, "interrupted");
    if (waitpid(server->pid, &status, WNOHANG) == server->pid) {
        server->pid = 0;
        read_last_lines(server->log, lines, sizeof lines);
        return vly_fail(err, VLY_E_IO, "the server ended: %s", lines);
    }
    int rc = vly_http_client_fetch(client, "/health", (vly_bytes){NULL, 0}, 10, &body, err);
    vly_text_free(&body);
    return rc ? 0 : 1;
}

static int wait_until_ready(vly_bench_server *server, vly_error *err)
{
    uv_loop_t loop;
    vly_http_client *client = NULL;
    int uv = uv_loop_init(&loop);
    if (uv) return vly_fail(err, VLY_E_IO, "event loop: %s", uv_strerror(uv));
    int rc = vly_http_client_create(&loop, server->socket, NULL, NULL, &client, err);
    while (rc == 0 && (rc = check(server, client, err)) == 0) usleep(POLL_MS * 1000);
    vly_http_client_destroy(client);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return rc < 0 ? rc : 0;
}

int vly_bench_server_start(const vly_serve_bench *o, uint32_t n_parallel, uint32_t n_ctx,
                           vly_bench_server *out, vly_error *err)
{
    enum { MAX_OWN = 32 };
    char parallel[16], ctx[16];
    const char *tmp = getenv("TMPDIR");
    *out = (vly_bench_server){0};
    snprintf(out->folder, sizeof out->folder, "%s/volley-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(out->folder)) {
        int rc =
            vly_fail(err, VLY_E_IO, "cannot make the folder %s: %s", out->folder, strerror(errno));
        out->folder[0] = '\0';
        return rc;
    }
    snprintf(out->socket, sizeof out->socket, "%s/v.sock", out->folder);
    snprintf(out->log, sizeof out->log, "%s/log", out->folder);
    snprintf(parallel, sizeof parallel, "%u", n_parallel);
    snprintf(ctx, sizeof ctx, "%u", n_ctx);
    const char *own[] = {"volley",
                         "serve",
                         "--socket",
                         out->socket,
                         "--parallel",
                         parallel,
                         "--ctx",
                         ctx,
                         "--queue",
                         "100000",
                         "--max-connections",
                         "0",
                         "--max-peer-connections",
                         "0",
                         "--request-timeout",
                         "0"};
    const struct {
        const char *name, *value;
    } models[] = {
        {"-m", o->target}, {"-d", o->draft}, {"--device", o->device}, {"--arch", o->arch}};
    char **words = calloc(MAX_OWN + (size_t)o->n_server_options, sizeof *words);
    if (!words) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the server's options");
    size_t n = 0;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) words[n++] = (char *)(uintptr_t)own[i];
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (!models[i].value) continue;
        words[n++] = (char *)(uintptr_t)models[i].name;
        words[n++] = (char *)(uintptr_t)models[i].value;
    }
    for (int i = 0; i < o->n_server_options; i++) words[n++] = o->server_options[i];
    pid_t parent = getpid();
    fflush(stdout);
    out->pid = fork();
    if (out->pid == 0) run_server(out, words, parent);
    free(words);
    if (out->pid > 0) return wait_until_ready(out, err);
    out->pid = 0;
    return vly_fail(err, VLY_E_IO, "fork: %s", strerror(errno));
}

void vly_bench_server_stop(vly_bench_server *server)
{
    int status;
    if (server->pid > 0) {
        kill(server->pid, SIGTERM);
        while (waitpid(server->pid, &status, 0) < 0 && errno == EINTR) continue;
    }
    if (!server->folder[0]) return;
    unlink(server->log);
    unlink(server->socket);
    rmdir(server->folder);
}
