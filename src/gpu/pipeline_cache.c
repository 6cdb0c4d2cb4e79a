#include "gpu/gpu_internal.h"

#include "base/cache_file.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CACHE_BYTES (256u << 20)

/* The driver's own data in the file is checked only lightly by drivers. */
static const char magic[8] = "vlypipe1";

/* Where the file lies: one for each device and driver. */
static void set_path(vly_gpu *gpu)
{
    const vly_gpu_info *info = &gpu->caps.info;
    char uuid[2 * VK_UUID_SIZE + 1], name[128];
    for (size_t i = 0; i < VK_UUID_SIZE; i++)
        snprintf(uuid + 2 * i, 3, "%02x", info->pipeline_cache_uuid[i]);
    snprintf(name, sizeof name, "pipelines-%x-%x-%x-%s.bin", info->vendor_id, info->device_id,
             info->driver_version, uuid);
    vly_cache_path(name, gpu->cache_path);
}

/* Is it this device's data? The layout is VkPipelineCacheHeaderVersionOne. */
static bool is_ours(const vly_gpu *gpu, const void *data, size_t n_bytes)
{
    VkPipelineCacheHeaderVersionOne of;
    if (n_bytes < sizeof of) return false;
    memcpy(&of, data, sizeof of);
    const vly_gpu_info *info = &gpu->caps.info;
    return of.headerSize == sizeof of && of.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
           of.vendorID == info->vendor_id && of.deviceID == info->device_id &&
           !memcmp(of.pipelineCacheUUID, info->pipeline_cache_uuid, VK_UUID_SIZE);
}

int gpu_pipeline_cache_load(vly_gpu *gpu, vly_error *err)
{
    set_path(gpu);
    size_t n_bytes = 0;
    void *data = vly_cache_read(gpu->cache_path, magic, MAX_CACHE_BYTES, &n_bytes);
    if (data && !is_ours(gpu, data, n_bytes)) {
        vly_log(VLY_LOG_INFO, "gpu", "ignoring %s: not this device's", gpu->cache_path);
        free(data);
        data = NULL;
    }
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                      .initialDataSize = data ? n_bytes : 0,
                                      .pInitialData = data};
    VkResult result = vkCreatePipelineCache(gpu->device, &info, NULL, &gpu->pipeline_cache);
    if (result && data) {
        info.initialDataSize = 0;
        info.pInitialData = NULL;
        result = vkCreatePipelineCache(gpu->device, &info, NULL, &gpu->pipeline_cache);
    }
    free(data);
    if (result) return gpu_fail_vk(err, result, "vkCreatePipelineCache");
    return 0;
}

void gpu_pipeline_cache_save(vly_gpu *gpu)
{
    if (!gpu->cache_dirty || !gpu->cache_path[0] || gpu->failed) return;
    size_t n_bytes = 0;
    if (vkGetPipelineCacheData(gpu->device, gpu->pipeline_cache, &n_bytes, NULL) || n_bytes == 0 ||
        n_bytes > MAX_CACHE_BYTES)
        return;
    void *data = malloc(n_bytes);
    if (data && !vkGetPipelineCacheData(gpu->device, gpu->pipeline_cache, &n_bytes, data) &&
        !vly_cache_write(gpu->cache_path, magic, data, n_bytes))
        vly_log(VLY_LOG_INFO, "gpu", "cannot write %s: %s", gpu->cache_path, strerror(errno));
    free(data);
}
