#include "gpu/gpu_internal.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define WAIT_SLICE_NS  1000000000u
#define SLICES_TO_WARN 30

int gpu_submit_init(vly_gpu *gpu, vly_error *err)
{
    VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                      .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    VkResult result = vkCreateSemaphore(gpu->device, &info, NULL, &gpu->timeline);
    if (result) return gpu_fail_vk(err, result, "vkCreateSemaphore");
    return 0;
}

void gpu_submit_deinit(vly_gpu *gpu)
{
    vkDestroySemaphore(gpu->device, gpu->timeline, NULL);
}

gpu_flight *gpu_flight_at(vly_gpu *gpu, uint32_t i)
{
    return &gpu->flights[(gpu->first_flight + i) % MAX_IN_FLIGHT];
}

void gpu_flight_pop(vly_gpu *gpu)
{
    if (gpu_flight_at(gpu, 0)->done) gpu->n_undelivered--;
    gpu->first_flight = (gpu->first_flight + 1) % MAX_IN_FLIGHT;
    gpu->n_flights--;
}

/* Takes off what is complete and has nobody to be told. The mutex is held. */
static void retire(vly_gpu *gpu)
{
    while (gpu->n_flights && !gpu_flight_at(gpu, 0)->done &&
           gpu_flight_at(gpu, 0)->value <= gpu->completed)
        gpu_flight_pop(gpu);
}

int gpu_check(vly_gpu *gpu, vly_error *err)
{
    pthread_mutex_lock(&gpu->mutex);
    int rc = gpu->failed ? vly_fail(err, gpu->failed, "%s", gpu->failure.message) : 0;
    pthread_mutex_unlock(&gpu->mutex);
    return rc;
}

/* The label of the first submission after `value`; `otherwise` where there is none. */
static const char *label_after(vly_gpu *gpu, uint64_t value, const char *otherwise)
{
    for (uint32_t i = 0; i < gpu->n_flights; i++)
        if (gpu_flight_at(gpu, i)->value > value) return gpu_flight_at(gpu, i)->label;
    return otherwise;
}

int gpu_break(vly_gpu *gpu, VkResult result, const char *label, vly_error *err)
{
    /* How far the device came, if it can still tell, says which step it was in. */
    uint64_t reached = 0;
    bool told = !vkGetSemaphoreCounterValue(gpu->device, gpu->timeline, &reached);
    pthread_mutex_lock(&gpu->mutex);
    if (!gpu->failed) {
        if (!told || reached > gpu->submitted) reached = gpu->completed;
        label = label_after(gpu, reached, label);
        if (result == VK_ERROR_DEVICE_LOST)
            gpu->failed =
                vly_fail(&gpu->failure, VLY_E_DEVICE_LOST,
                         "%s was lost during \"%s\"; it may work again after a restart of "
                         "the program",
                         gpu->caps.info.name, label);
        else {
            gpu_fail_vk(&gpu->failure, result, "waiting for \"%s\" on %s", label,
                        gpu->caps.info.name);
            gpu->failed = gpu->failure.code = VLY_E_DEVICE;
        }
    }
    pthread_cond_signal(&gpu->wake);
    if (gpu->loop) uv_async_send(gpu->loop);
    pthread_mutex_unlock(&gpu->mutex);
    return gpu_check(gpu, err);
}

int gpu_wait_slices(vly_gpu *gpu, uint64_t value, vly_error *err)
{
    VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                .semaphoreCount = 1,
                                .pSemaphores = &gpu->timeline,
                                .pValues = &value};
    for (int slice = 1;; slice++) {
        VkResult result = vkWaitSemaphores(gpu->device, &info, WAIT_SLICE_NS);
        if (result == VK_SUCCESS) break;
        char label[LABEL_BYTES];
        pthread_mutex_lock(&gpu->mutex);
        snprintf(label, sizeof label, "%s", label_after(gpu, value - 1, "submission"));
        pthread_mutex_unlock(&gpu->mutex);
        if (result != VK_TIMEOUT) return gpu_break(gpu, result, label, err);
        int rc = gpu_check(gpu, err);
        if (rc) return rc;
        if (slice == SLICES_TO_WARN)
            vly_log(VLY_LOG_WARN, "gpu", "\"%s\" has been running for %d s; still waiting", label,
                    SLICES_TO_WARN);
    }
    pthread_mutex_lock(&gpu->mutex);
    if (value > gpu->completed) gpu->completed = value;
    retire(gpu);
    /* Whoever sees a completion first sees to its delivery. */
    if (gpu->loop && gpu->n_undelivered) uv_async_send(gpu->loop);
    pthread_mutex_unlock(&gpu->mutex);
    return 0;
}

int vly_gpu_wait(vly_gpu *gpu, uint64_t ticket, vly_error *err)
{
    int rc = gpu_check(gpu, err);
    if (rc) return rc;
    if (ticket == 0 || ticket > gpu->submitted)
        return vly_fail(err, VLY_E_INVALID, "ticket %llu, expected 1 to %llu",
                        (unsigned long long)ticket, (unsigned long long)gpu->submitted);
    return gpu_wait_slices(gpu, ticket, err);
}

/* Finds room for one more submission: waits for the oldest if need be, but cannot where its
 * completion is for the loop to deliver. */
static int make_room(vly_gpu *gpu, vly_error *err)
{
    pthread_mutex_lock(&gpu->mutex);
    retire(gpu);
    bool full = gpu->n_flights == MAX_IN_FLIGHT;
    gpu_flight oldest = *gpu_flight_at(gpu, 0);
    pthread_mutex_unlock(&gpu->mutex);
    if (!full) return 0;
    if (oldest.done)
        return vly_fail(err, VLY_E_INVALID,
                        "%d submissions are outstanding, expected the loop to run in between",
                        MAX_IN_FLIGHT);
    return gpu_wait_slices(gpu, oldest.value, err);
}

static int check_batch(const vly_gpu *gpu, vly_gpu_commands *const *commands, uint32_t n,
                       vly_gpu_done done, vly_error *err)
{
    if (n == 0 || n > MAX_BATCH)
        return vly_fail(err, VLY_E_INVALID, "%u commands in a submission, expected 1 to %d", n,
                        MAX_BATCH);
    for (uint32_t i = 0; i < n; i++)
        if (!commands[i]->ended || commands[i]->gpu != gpu)
            return vly_fail(err, VLY_E_INVALID,
                            "\"%s\" is submitted before its recording has ended, or elsewhere",
                            commands[i]->label);
    if (done && !gpu->loop)
        return vly_fail(err, VLY_E_INVALID, "\"%s\" wants its completion delivered, without a loop",
                        commands[0]->label);
    return 0;
}

/* "first" or "first ... last" of those that do more than mark the time. */
static void join_labels(vly_gpu_commands *const *commands, uint32_t n, char *label)
{
    const char *first = NULL, *last = NULL;
    for (uint32_t i = 0; i < n; i++) {
        if (!commands[i]->writes) continue;
        last = commands[i]->label;
        if (!first) first = last;
    }
    if (!first) first = last = commands[0]->label;
    bool several = first != last;
    snprintf(label, LABEL_BYTES, "%.*s%s%.*s", LABEL_BYTES / 2 - 4, first, several ? " ... " : "",
             LABEL_BYTES / 2 - 4, several ? last : "");
}

static VkResult queue_submit(vly_gpu *gpu, vly_gpu_commands *const *commands, uint32_t n,
                             uint64_t value)
{
    VkCommandBuffer buffers[MAX_BATCH + 1];
    for (uint32_t i = 0; i < n; i++) {
        buffers[i] = commands[i]->buffer;
        if (commands[i]->queries)
            vkResetQueryPool(gpu->device, commands[i]->queries, 0, commands[i]->n_queries);
    }
    buffers[n] = gpu->to_host->buffer;
    VkTimelineSemaphoreSubmitInfo timeline = {.sType =
                                                  VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                              .signalSemaphoreValueCount = 1,
                                              .pSignalSemaphoreValues = &value};
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                         .pNext = &timeline,
                         .commandBufferCount = n + 1,
                         .pCommandBuffers = buffers,
                         .signalSemaphoreCount = 1,
                         .pSignalSemaphores = &gpu->timeline};
    return vkQueueSubmit(gpu->queue, 1, &info, VK_NULL_HANDLE);
}

int vly_gpu_submit(vly_gpu *gpu, vly_gpu_commands *const *commands, uint32_t n, vly_gpu_done done,
                   void *arg, uint64_t *ticket, vly_error *err)
{
    int rc = gpu_check(gpu, err);
    if (!rc) rc = check_batch(gpu, commands, n, done, err);
    if (!rc) rc = make_room(gpu, err);
    if (rc) return rc;
    gpu_flight flight = {.value = gpu->submitted + 1, .done = done, .arg = arg};
    join_labels(commands, n, flight.label);
    VkResult result = queue_submit(gpu, commands, n, flight.value);
    if (result == VK_ERROR_DEVICE_LOST) return gpu_break(gpu, result, flight.label, err);
    if (result) return gpu_fail_vk(err, result, "submitting \"%s\"", flight.label);
    pthread_mutex_lock(&gpu->mutex);
    gpu->submitted = flight.value;
    *gpu_flight_at(gpu, gpu->n_flights++) = flight;
    if (done) {
        gpu->n_undelivered++;
        uv_ref((uv_handle_t *)gpu->loop);
        gpu_loop_poll(gpu);
        pthread_cond_signal(&gpu->wake);
    }
    pthread_mutex_unlock(&gpu->mutex);
    if (ticket) *ticket = flight.value;
    return 0;
}

int gpu_run(vly_gpu *gpu, vly_gpu_commands *commands, vly_error *err)
{
    uint64_t ticket;
    int rc = vly_gpu_commands_end(commands, err);
    if (!rc) rc = vly_gpu_submit(gpu, &commands, 1, NULL, NULL, &ticket, err);
    if (!rc) rc = vly_gpu_wait(gpu, ticket, err);
    return rc;
}
