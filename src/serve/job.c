/* The work on a request's body: what is long is done in a thread, so that the streams of others go
 * on. */
#include "serve/server.h"

#include <stdlib.h>

/* Bytes of a body whose work is a matter of a few ms, and is done at once. */
#define MAX_AT_ONCE 16384
/* Threads that work on bodies: cutting a text into tokens takes up to 40 times its memory. */
#define MAX_THREADS 2

/* The client may have gone meanwhile. */
static void end(vly_job *job)
{
    vly_server *server = job->server;
    vly_connection *c = job->connection;
    server->n_jobs--;
    if (c) c->job = NULL;
    if (!c) {
        job->record.status = 499;
        job->record.outcome = vly_outcome_name(VLY_OUTCOME_CANCELLED);
        vly_log_request(server, &job->record);
    }
    job->done(job, c);
    vly_text_free(&job->body);
    free(job);
    vly_server_check_drained(server);
}

static void work(uv_work_t *request)
{
    vly_job *job = request->data;
    job->work(job);
}

static void begin_waiting(vly_server *server);

static void on_worked(uv_work_t *request, int status)
{
    vly_job *job = request->data;
    vly_server *server = job->server;
    (void)status; /* cancelled: then nobody is there any more */
    server->n_threads--;
    end(job);
    begin_waiting(server);
}

/* Those whose client is gone end without having begun. */
static void begin_waiting(vly_server *server)
{
    while (server->waiting && server->n_threads < MAX_THREADS) {
        vly_job *job = server->waiting;
        server->waiting = job->next;
        if (job->connection && uv_queue_work(&server->loop, &job->request, work, on_worked) == 0) {
            server->n_threads++;
            continue;
        }
        if (job->connection) job->work(job);
        end(job);
    }
}

void vly_job_start(vly_connection *c, vly_job *job)
{
    vly_server *server = c->server;
    vly_text *body = &c->reader.request.body;
    job->server = server;
    job->connection = c;
    job->record = c->exchange.record;
    job->body = *body;
    *body = (vly_text){0};
    job->request.data = job;
    c->job = job;
    server->n_jobs++;
    if (job->body.len <= MAX_AT_ONCE) {
        job->work(job);
        end(job);
        return;
    }
    vly_job **last = &server->waiting;
    while (*last) last = &(*last)->next;
    *last = job;
    begin_waiting(server);
}

void vly_job_abandon(vly_job *job)
{
    job->record.n_bytes = 0;
    job->connection = NULL;
    uv_cancel((uv_req_t *)&job->request); /* fails where it has begun */
}
