#include "gpu/gpu_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_STAGES (VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT)
#define DEVICE_WRITES (VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT)
#define DEVICE_ACCESS (DEVICE_WRITES | VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT)

static void barrier(VkCommandBuffer buffer, VkPipelineStageFlags src, VkAccessFlags src_access,
                    VkPipelineStageFlags dst, VkAccessFlags dst_access)
{
    VkMemoryBarrier all = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                           .srcAccessMask = src_access,
                           .dstAccessMask = dst_access};
    vkCmdPipelineBarrier(buffer, src, dst, 0, 1, &all, 0, NULL, 0, NULL);
}

/* Where an error of recording goes: the first is kept for vly_gpu_commands_end. */
static vly_error *spoil(vly_gpu_commands *commands)
{
    return commands->error.code ? NULL : &commands->error;
}

/* From a pool of their own: what is in one pool may not be recorded in two threads at a time. */
static VkResult allocate(vly_gpu_commands *commands)
{
    vly_gpu *gpu = commands->gpu;
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .queueFamilyIndex = gpu->caps.queue_family};
    VkResult result = vkCreateCommandPool(gpu->device, &pool, NULL, &commands->pool);
    if (result) return result;
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = commands->pool,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = 1};
    return vkAllocateCommandBuffers(gpu->device, &info, &commands->buffer);
}

int vly_gpu_commands_create(vly_gpu *gpu, const char *label, vly_gpu_commands **out, vly_error *err)
{
    *out = NULL;
    int rc = gpu_check(gpu, err);
    if (rc) return rc;
    vly_gpu_commands *commands = calloc(1, sizeof *commands);
    if (!commands) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for commands");
    commands->gpu = gpu;
    snprintf(commands->label, sizeof commands->label, "%s", label);
    VkResult result = allocate(commands);
    if (result) {
        vly_gpu_commands_destroy(commands);
        return gpu_fail_vk(err, result, "%s: vkAllocateCommandBuffers", label);
    }
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                      .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT};
    result = vkBeginCommandBuffer(commands->buffer, &begin);
    if (result) {
        vly_gpu_commands_destroy(commands);
        return gpu_fail_vk(err, result, "%s: vkBeginCommandBuffer", label);
    }
    *out = commands;
    return 0;
}

void vly_gpu_commands_destroy(vly_gpu_commands *commands)
{
    if (!commands) return;
    vly_gpu *gpu = commands->gpu;
    vkDestroyCommandPool(gpu->device, commands->pool, NULL);
    if (commands->queries) vkDestroyQueryPool(gpu->device, commands->queries, NULL);
    free(commands);
}

void vly_gpu_cmd_dispatch(vly_gpu_commands *commands, const vly_gpu_kernel *kernel,
                          const vly_gpu_views *views, const void *push, uint32_t push_bytes,
                          uint32_t x, uint32_t y, uint32_t z)
{
    const vly_gpu *gpu = commands->gpu;
    const uint32_t *most = gpu->caps.max_groups;
    if (x > most[0] || y > most[1] || z > most[2]) {
        vly_fail(spoil(commands), VLY_E_INVALID,
                 "%u x %u x %u workgroups, expected at most %u x %u x %u", x, y, z, most[0],
                 most[1], most[2]);
        return;
    }
    if (push_bytes > VLY_GPU_MAX_PUSH_BYTES || push_bytes % 4) {
        vly_fail(spoil(commands), VLY_E_INVALID, "%u push bytes, expected whole words, at most %d",
                 push_bytes, VLY_GPU_MAX_PUSH_BYTES);
        return;
    }
    if (kernel != commands->kernel)
        vkCmdBindPipeline(commands->buffer, VK_PIPELINE_BIND_POINT_COMPUTE, kernel->pipeline);
    if (views && views != commands->views) {
        vkCmdBindDescriptorSets(commands->buffer, VK_PIPELINE_BIND_POINT_COMPUTE,
                                gpu->pipeline_layout, 0, 1, &views->set, 0, NULL);
        commands->views = views;
    }
    commands->kernel = kernel;
    if (push_bytes)
        vkCmdPushConstants(commands->buffer, gpu->pipeline_layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                           push_bytes, push);
    vkCmdDispatch(commands->buffer, x, y, z);
    commands->writes = true;
}

void vly_gpu_cmd_barrier(vly_gpu_commands *commands)
{
    barrier(commands->buffer, DEVICE_STAGES, DEVICE_WRITES, DEVICE_STAGES, DEVICE_ACCESS);
}

int gpu_to_host_create(vly_gpu *gpu, vly_error *err)
{
    int rc = vly_gpu_commands_create(gpu, "results to the host", &gpu->to_host, err);
    if (rc) return rc;
    barrier(gpu->to_host->buffer, DEVICE_STAGES, DEVICE_WRITES, VK_PIPELINE_STAGE_HOST_BIT,
            VK_ACCESS_HOST_READ_BIT);
    return vly_gpu_commands_end(gpu->to_host, err);
}

/* Is [offset, offset + n_bytes) inside the buffer? Spoils the commands where it is not. */
static bool check_range(vly_gpu_commands *commands, const char *what, const vly_gpu_buffer *buffer,
                        uint64_t offset, uint64_t n_bytes)
{
    if (n_bytes && offset <= buffer->n_bytes && n_bytes <= buffer->n_bytes - offset) return true;
    vly_fail(spoil(commands), VLY_E_INVALID, "%s of %llu bytes at %llu in a buffer of %llu", what,
             (unsigned long long)n_bytes, (unsigned long long)offset,
             (unsigned long long)buffer->n_bytes);
    return false;
}

void vly_gpu_cmd_copy(vly_gpu_commands *commands, const vly_gpu_buffer *src, uint64_t src_offset,
                      const vly_gpu_buffer *dst, uint64_t dst_offset, uint64_t n_bytes)
{
    if (!check_range(commands, "copy", src, src_offset, n_bytes) ||
        !check_range(commands, "copy", dst, dst_offset, n_bytes))
        return;
    VkBufferCopy region = {src_offset, dst_offset, n_bytes};
    vkCmdCopyBuffer(commands->buffer, src->handle, dst->handle, 1, &region);
    commands->writes = true;
}

void vly_gpu_cmd_fill(vly_gpu_commands *commands, const vly_gpu_buffer *dst, uint64_t offset,
                      uint64_t n_bytes, uint32_t value)
{
    if (!check_range(commands, "fill", dst, offset, n_bytes)) return;
    if (offset % 4 || n_bytes % 4) {
        vly_fail(spoil(commands), VLY_E_INVALID, "fill of %llu bytes at %llu, expected whole words",
                 (unsigned long long)n_bytes, (unsigned long long)offset);
        return;
    }
    vkCmdFillBuffer(commands->buffer, dst->handle, offset, n_bytes, value);
    commands->writes = true;
}

static int create_queries(vly_gpu_commands *commands, vly_error *err)
{
    vly_gpu *gpu = commands->gpu;
    if (!gpu->caps.timestamp_bits)
        return vly_fail(err, VLY_E_UNSUPPORTED, "%s has no timestamps", gpu->caps.info.name);
    VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                  .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                  .queryCount = VLY_GPU_MAX_TIMESTAMPS};
    VkResult result = vkCreateQueryPool(gpu->device, &info, NULL, &commands->queries);
    return result ? gpu_fail_vk(err, result, "vkCreateQueryPool") : 0;
}

void vly_gpu_cmd_timestamp(vly_gpu_commands *commands, uint32_t slot)
{
    uint8_t *byte = &commands->marked[slot / 8 % sizeof commands->marked];
    uint8_t bit = (uint8_t)(1u << slot % 8);
    if (slot >= VLY_GPU_MAX_TIMESTAMPS || *byte & bit) {
        vly_fail(spoil(commands), VLY_E_INVALID, "timestamp %u, expected one below %d, marked once",
                 slot, VLY_GPU_MAX_TIMESTAMPS);
        return;
    }
    if (!commands->queries && create_queries(commands, spoil(commands))) return;
    *byte |= bit;
    if (slot >= commands->n_queries) commands->n_queries = slot + 1;
    vkCmdWriteTimestamp(commands->buffer, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, commands->queries,
                        slot);
}

int vly_gpu_commands_end(vly_gpu_commands *commands, vly_error *err)
{
    if (commands->ended)
        return vly_fail(err, VLY_E_INVALID, "\"%s\" is already recorded", commands->label);
    if (commands->writes) vly_gpu_cmd_barrier(commands);
    VkResult result = vkEndCommandBuffer(commands->buffer);
    if (commands->error.code)
        return vly_fail(err, commands->error.code, "recording \"%s\": %s", commands->label,
                        commands->error.message);
    if (result) return gpu_fail_vk(err, result, "recording \"%s\"", commands->label);
    commands->ended = true;
    return 0;
}

int vly_gpu_mark_create(vly_gpu *gpu, vly_gpu_commands **out, vly_error *err)
{
    int rc = vly_gpu_commands_create(gpu, "time mark", out, err);
    if (rc) return rc;
    vly_gpu_cmd_timestamp(*out, 0);
    rc = vly_gpu_commands_end(*out, err);
    if (rc == 0) return 0;
    vly_gpu_commands_destroy(*out);
    *out = NULL;
    return rc;
}

int vly_gpu_commands_times(const vly_gpu_commands *commands, uint32_t n, uint64_t *ns,
                           vly_error *err)
{
    vly_gpu *gpu = commands->gpu;
    int rc = gpu_check(gpu, err);
    if (rc || n == 0) return rc;
    for (uint32_t i = 0; i < n; i++)
        if (i >= VLY_GPU_MAX_TIMESTAMPS || !(commands->marked[i / 8] >> i % 8 & 1))
            return vly_fail(err, VLY_E_INVALID, "\"%s\" marks no time %u", commands->label, i);
    VkResult result = vkGetQueryPoolResults(gpu->device, commands->queries, 0, n, n * sizeof *ns,
                                            ns, sizeof *ns, VK_QUERY_RESULT_64_BIT);
    if (result == VK_NOT_READY)
        return vly_fail(err, VLY_E_INVALID, "\"%s\" has no times yet: not completed",
                        commands->label);
    if (result == VK_ERROR_DEVICE_LOST) return gpu_break(gpu, result, commands->label, err);
    if (result) return gpu_fail_vk(err, result, "times of \"%s\"", commands->label);
    uint32_t bits = gpu->caps.timestamp_bits;
    uint64_t mask = bits >= 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
    for (uint32_t i = 0; i < n; i++)
        ns[i] = (uint64_t)((long double)(ns[i] & mask) * gpu->caps.info.timestamp_ns);
    return 0;
}
