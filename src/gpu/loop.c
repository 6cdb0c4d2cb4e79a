#include "gpu/gpu_internal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A sleeping loop learns of a completion some 100 us late, which a step of a small model on a GPU
 * takes several times over. So the loop looks itself for this long after a submission, and then
 * sleeps. */
#define POLL_NS 50000000u

/* The next submission whose completion somebody wants delivered; 0: none. The mutex is held. */
static uint64_t next_wanted(vly_gpu *gpu)
{
    for (uint32_t i = 0; i < gpu->n_flights; i++) {
        const gpu_flight *flight = gpu_flight_at(gpu, i);
        if (flight->done && flight->value > gpu->completed) return flight->value;
    }
    return 0;
}

/* The waiter's thread: waits for one wanted submission after the other. Waking the loop is left to
 * gpu_wait_slices, and after a failure to gpu_break. */
static void *wait_and_tell(void *arg)
{
    vly_gpu *gpu = arg;
    for (;;) {
        pthread_mutex_lock(&gpu->mutex);
        uint64_t value = 0;
        while (!gpu->stop && !gpu->failed && !(value = next_wanted(gpu)))
            pthread_cond_wait(&gpu->wake, &gpu->mutex);
        bool over = gpu->stop || gpu->failed;
        pthread_mutex_unlock(&gpu->mutex);
        if (over || gpu_wait_slices(gpu, value, NULL)) return NULL;
    }
}

/* Delivers what is complete, or after a failure everything, in order. */
static void deliver(vly_gpu *gpu)
{
    for (;;) {
        pthread_mutex_lock(&gpu->mutex);
        gpu_flight flight = {0};
        bool complete = false, ready = false;
        vly_error err = gpu->failure;
        if (gpu->n_flights) {
            flight = *gpu_flight_at(gpu, 0);
            complete = flight.value <= gpu->completed;
            ready = complete || gpu->failed;
        }
        if (ready) gpu_flight_pop(gpu);
        pthread_mutex_unlock(&gpu->mutex);
        if (!ready) return;
        if (complete) err = (vly_error){0};
        if (flight.done) flight.done(flight.arg, err.code, &err);
    }
}

static void deliver_to_loop(vly_gpu *gpu)
{
    deliver(gpu);
    if (gpu->n_undelivered || !gpu->loop) return;
    uv_unref((uv_handle_t *)gpu->loop);
    if (gpu->poller) uv_idle_stop(gpu->poller);
}

static void on_async(uv_async_t *handle)
{
    deliver_to_loop(handle->data);
}

static void on_idle(uv_idle_t *handle)
{
    vly_gpu *gpu = handle->data;
    uint64_t reached;
    if (uv_hrtime() > gpu->poll_until_ns ||
        vkGetSemaphoreCounterValue(gpu->device, gpu->timeline, &reached)) {
        uv_idle_stop(handle);
        return;
    }
    pthread_mutex_lock(&gpu->mutex);
    bool news = reached > gpu->completed && reached <= gpu->submitted;
    if (news) gpu->completed = reached;
    pthread_mutex_unlock(&gpu->mutex);
    if (news) deliver_to_loop(gpu);
}

void gpu_loop_poll(vly_gpu *gpu)
{
    if (!gpu->poller) return;
    gpu->poll_until_ns = uv_hrtime() + POLL_NS;
    uv_idle_start(gpu->poller, on_idle);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

/* Polling wants a processor of its own, and a device that is not one itself. */
static int create_poller(vly_gpu *gpu, struct uv_loop_s *loop, vly_error *err)
{
    if (gpu->caps.info.type == VLY_GPU_CPU || sysconf(_SC_NPROCESSORS_ONLN) < 2) return 0;
    gpu->poller = malloc(sizeof *gpu->poller);
    if (!gpu->poller) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a loop's handle");
    uv_idle_init(loop, gpu->poller); /* cannot fail */
    gpu->poller->data = gpu;
    uv_unref((uv_handle_t *)gpu->poller);
    return 0;
}

static void close_poller(vly_gpu *gpu)
{
    if (gpu->poller) uv_close((uv_handle_t *)gpu->poller, on_closed);
    gpu->poller = NULL;
}

/* Starts the waiter with all signals blocked: they are for the loop's thread. */
static int start_waiter(vly_gpu *gpu)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    gpu->stop = false;
    int failed = pthread_create(&gpu->waiter, NULL, wait_and_tell, gpu);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failed;
}

int vly_gpu_loop_attach(vly_gpu *gpu, struct uv_loop_s *loop, vly_error *err)
{
    int rc = gpu_check(gpu, err);
    if (rc) return rc;
    if (gpu->loop) return vly_fail(err, VLY_E_INVALID, "a loop is already attached");
    if ((rc = create_poller(gpu, loop, err))) return rc;
    uv_async_t *handle = malloc(sizeof *handle);
    if (!handle) {
        close_poller(gpu);
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a loop's handle");
    }
    int failed = uv_async_init(loop, handle, on_async);
    if (failed) {
        close_poller(gpu);
        free(handle);
        return vly_fail(err, VLY_E_IO, "uv_async_init: %s", uv_strerror(failed));
    }
    handle->data = gpu;
    uv_unref((uv_handle_t *)handle);
    gpu->loop = handle;
    failed = start_waiter(gpu);
    if (failed) {
        gpu->loop = NULL;
        close_poller(gpu);
        uv_close((uv_handle_t *)handle, on_closed);
        return vly_fail(err, VLY_E_IO, "starting the waiter: %s", strerror(failed));
    }
    return 0;
}

void vly_gpu_loop_detach(vly_gpu *gpu)
{
    uv_async_t *handle = gpu->loop;
    if (!handle) return;
    /* A failed wait leaves a failure that `deliver` passes on. */
    if (gpu->n_undelivered) vly_gpu_wait(gpu, gpu->submitted, NULL);
    pthread_mutex_lock(&gpu->mutex);
    gpu->stop = true;
    pthread_cond_signal(&gpu->wake);
    pthread_mutex_unlock(&gpu->mutex);
    pthread_join(gpu->waiter, NULL);
    /* Where only waiting failed, the device goes on in memory that is given back next. */
    if (gpu->failed) vkDeviceWaitIdle(gpu->device);
    gpu->loop = NULL; /* what the callbacks submit now cannot be for the loop any more */
    deliver(gpu);
    close_poller(gpu);
    uv_close((uv_handle_t *)handle, on_closed);
}
