#include "gpu/gpu_internal.h"

#include <string.h>

#define ADDRESS_ALIGNMENT 256

/* Kinds of memory that Volley never wants: of other queues, or slow without a reason. */
#define UNWANTED_FLAGS                                                                             \
    (VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT | VK_MEMORY_PROPERTY_PROTECTED_BIT |                  \
     VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD | VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD |     \
     VK_MEMORY_PROPERTY_RDMA_CAPABLE_BIT_NV)

/* Flags wanted of each vly_gpu_memory, best first; the last is what every device has. */
static const VkMemoryPropertyFlags wanted_flags[][2] = {
    [VLY_GPU_DEVICE] = {VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT},
    [VLY_GPU_PAGES] = {VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT},
    [VLY_GPU_STEP] = {VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
                          VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                      VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT},
    [VLY_GPU_STAGING] = {VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                         VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                             VK_MEMORY_PROPERTY_HOST_COHERENT_BIT},
    [VLY_GPU_READBACK] = {VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                              VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
                              VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
                          VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                              VK_MEMORY_PROPERTY_HOST_COHERENT_BIT},
};

static bool is_device(vly_gpu_memory memory)
{
    return memory == VLY_GPU_DEVICE || memory == VLY_GPU_PAGES;
}

/* On unified devices device memory must also be mappable. */
static VkMemoryPropertyFlags flags_for(const vly_gpu *gpu, vly_gpu_memory memory, int attempt)
{
    VkMemoryPropertyFlags flags = wanted_flags[memory][attempt];
    if (is_device(memory) && gpu->caps.info.unified)
        flags |= VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    return flags;
}

static int fail_memory(const vly_gpu *gpu, uint64_t n_bytes, const char *label, vly_error *err)
{
    return vly_fail(err, VLY_E_DEVICE_MEMORY,
                    "%s: wanted %.1f MiB, available %.1f MiB on %s (at most %.1f MiB in one piece)",
                    label, MIB(n_bytes), MIB(vly_gpu_available_bytes(gpu)), gpu->caps.info.name,
                    MIB(gpu->caps.info.max_allocation_bytes < gpu->caps.info.max_buffer_bytes
                            ? gpu->caps.info.max_allocation_bytes
                            : gpu->caps.info.max_buffer_bytes));
}

/* Allocates from the first fitting type that has room, and binds. *type: which. */
static VkResult allocate(vly_gpu *gpu, VkBuffer buffer, vly_gpu_memory memory,
                         VkDeviceMemory *allocation, uint32_t *type)
{
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(gpu->device, buffer, &needs);
    const VkPhysicalDeviceMemoryProperties *have = &gpu->caps.memory;
    VkResult result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    for (int attempt = 0; attempt < 2; attempt++) {
        VkMemoryPropertyFlags flags = flags_for(gpu, memory, attempt);
        for (uint32_t i = 0; i < have->memoryTypeCount; i++) {
            VkMemoryPropertyFlags offered = have->memoryTypes[i].propertyFlags;
            if (!(needs.memoryTypeBits >> i & 1) || (offered & flags) != flags ||
                (offered & UNWANTED_FLAGS))
                continue;
            VkMemoryAllocateFlagsInfo with_address = {
                .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
            VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                         .pNext = &with_address,
                                         .allocationSize = needs.size,
                                         .memoryTypeIndex = i};
            result = vkAllocateMemory(gpu->device, &info, NULL, allocation);
            if (result) continue;
            *type = i;
            return vkBindBufferMemory(gpu->device, buffer, *allocation, 0);
        }
    }
    return result;
}

static int zero(vly_gpu *gpu, const vly_gpu_buffer *buffer, const char *label, vly_error *err)
{
    if (buffer->mapped) {
        memset(buffer->mapped, 0, buffer->n_bytes);
        return 0;
    }
    vly_gpu_commands *commands;
    int rc = vly_gpu_commands_create(gpu, label, &commands, err);
    if (rc) return rc;
    vly_gpu_cmd_fill(commands, buffer, 0, buffer->n_bytes, 0);
    rc = gpu_run(gpu, commands, err);
    vly_gpu_commands_destroy(commands);
    return rc;
}

/* Gives `out`, whose fields are set as far as they succeeded, memory, an address and zeroes. */
static int fill_in(vly_gpu *gpu, vly_gpu_memory memory, const char *label, vly_gpu_buffer *out,
                   vly_error *err)
{
    VkDeviceMemory allocation = VK_NULL_HANDLE;
    uint32_t type = 0;
    VkResult result = allocate(gpu, out->handle, memory, &allocation, &type);
    out->allocation = allocation;
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY) return fail_memory(gpu, out->n_bytes, label, err);
    if (result)
        return gpu_fail_vk(err, result, "%s: allocating %.1f MiB", label, MIB(out->n_bytes));
    bool maps = !is_device(memory) || gpu->caps.info.unified;
    if (maps) {
        result = vkMapMemory(gpu->device, allocation, 0, VK_WHOLE_SIZE, 0, &out->mapped);
        if (result)
            return gpu_fail_vk(err, result, "%s: mapping %.1f MiB", label, MIB(out->n_bytes));
    }
    VkBufferDeviceAddressInfo of = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                    .buffer = out->handle};
    out->address = vkGetBufferDeviceAddress(gpu->device, &of);
    if (out->address == 0 || out->address % ADDRESS_ALIGNMENT)
        return vly_fail(err, VLY_E_DEVICE,
                        "%s: the driver placed it at 0x%llx, expected a multiple of %d", label,
                        (unsigned long long)out->address, ADDRESS_ALIGNMENT);
    int rc = memory == VLY_GPU_PAGES ? 0 : zero(gpu, out, label, err);
    if (rc) return rc;
    if (gpu->caps.memory.memoryTypes[type].heapIndex == gpu->caps.device_heap) {
        out->counted = true;
        gpu->device_heap_used += out->n_bytes;
        if (gpu->device_heap_used > gpu->device_heap_peak)
            gpu->device_heap_peak = gpu->device_heap_used;
    }
    return 0;
}

int vly_gpu_buffer_create(vly_gpu *gpu, uint64_t n_bytes, vly_gpu_memory memory, const char *label,
                          vly_gpu_buffer *out, vly_error *err)
{
    *out = (vly_gpu_buffer){0};
    int rc = gpu_check(gpu, err);
    if (rc) return rc;
    if (n_bytes == 0) return vly_fail(err, VLY_E_INVALID, "%s: a buffer of 0 bytes", label);
    const vly_gpu_info *info = &gpu->caps.info;
    if (n_bytes > info->max_buffer_bytes || n_bytes > info->max_allocation_bytes ||
        (is_device(memory) && n_bytes > vly_gpu_available_bytes(gpu)))
        return fail_memory(gpu, n_bytes, label, err);
    /* Whole words, for vkCmdFillBuffer; no sum overflows, as the limits are far from 2^64. */
    n_bytes = (n_bytes + 3) & ~(uint64_t)3;
    VkBufferCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = n_bytes,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                 VK_BUFFER_USAGE_TRANSFER_DST_BIT | VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT |
                 VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT};
    VkBuffer handle;
    VkResult result = vkCreateBuffer(gpu->device, &create, NULL, &handle);
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY) return fail_memory(gpu, n_bytes, label, err);
    if (result) return gpu_fail_vk(err, result, "%s: a buffer of %.1f MiB", label, MIB(n_bytes));
    out->handle = handle;
    out->n_bytes = n_bytes;
    rc = fill_in(gpu, memory, label, out, err);
    if (rc) vly_gpu_buffer_destroy(gpu, out);
    return rc;
}

void vly_gpu_buffer_destroy(vly_gpu *gpu, vly_gpu_buffer *buffer)
{
    if (!buffer->handle) return;
    if (buffer->counted) gpu->device_heap_used -= buffer->n_bytes;
    vkDestroyBuffer(gpu->device, buffer->handle, NULL);
    if (buffer->allocation) vkFreeMemory(gpu->device, buffer->allocation, NULL);
    *buffer = (vly_gpu_buffer){0};
}
