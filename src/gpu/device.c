#include "gpu/gpu_internal.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Smaller is better. */
static int rank(const vly_gpu_info *info)
{
    static const int ranks[] = {[VLY_GPU_DISCRETE] = 0,
                                [VLY_GPU_INTEGRATED] = 1,
                                [VLY_GPU_VIRTUAL] = 2,
                                [VLY_GPU_CPU] = 3,
                                [VLY_GPU_OTHER] = 4};
    return ranks[info->type];
}

static bool is_better(const vly_gpu_info *a, const vly_gpu_info *b)
{
    if (a->usable != b->usable) return a->usable;
    if (rank(a) != rank(b)) return rank(a) < rank(b);
    return a->memory_bytes > b->memory_bytes;
}

/* "0: NAME, 1: NAME (it lacks ...)" */
static void describe(const vly_gpu_info *infos, size_t n, char *text, size_t n_bytes)
{
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < n && len < n_bytes; i++) {
        const vly_gpu_info *info = &infos[i];
        len += (size_t)snprintf(text + len, n_bytes - len, "%s%u: %s%s%s%s", i ? ", " : "",
                                info->index, info->name, info->usable ? "" : " (", info->why_not,
                                info->usable ? "" : ")");
    }
}

int vly_gpu_choose(const vly_gpu_info *infos, size_t n, const char *choice, int *chosen,
                   vly_error *err)
{
    char all[768];
    describe(infos, n, all, sizeof all);
    bool is_number = choice && *choice && strspn(choice, "0123456789") == strlen(choice);
    unsigned long index = is_number ? strtoul(choice, NULL, 10) : 0;
    *chosen = -1;
    for (size_t i = 0; i < n; i++) {
        const vly_gpu_info *info = &infos[i];
        bool fits = !choice     ? true
                    : is_number ? info->index == index
                                : *choice && strcasestr(info->name, choice);
        if (fits && (*chosen < 0 || is_better(info, &infos[*chosen]))) *chosen = (int)i;
    }
    if (*chosen >= 0 && infos[*chosen].usable) return 0;
    bool none = *chosen < 0;
    *chosen = -1;
    if (none && choice)
        return vly_fail(err, VLY_E_NO_DEVICE, "no device is \"%.64s\"; there are: %s", choice, all);
    if (choice)
        return vly_fail(err, VLY_E_NO_DEVICE, "the device \"%.64s\" cannot be used; there are: %s",
                        choice, all);
    return vly_fail(err, VLY_E_NO_DEVICE, "no device can be used; there are: %s", all);
}

static int query_all(VkInstance instance, gpu_caps **caps, VkPhysicalDevice **physical, uint32_t *n,
                     vly_error *err)
{
    *caps = NULL;
    int rc = gpu_instance_devices(instance, physical, n, err);
    if (rc) return rc;
    *caps = malloc(*n * sizeof **caps);
    rc = *caps ? 0 : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %u devices", *n);
    for (uint32_t i = 0; !rc && i < *n; i++)
        rc = gpu_caps_query((*physical)[i], i, &(*caps)[i], err);
    if (!rc) return 0;
    free(*caps);
    free(*physical);
    *caps = NULL;
    *physical = NULL;
    return rc;
}

/* As query_all, and the infos alone, malloc'd too. */
static int list(VkInstance instance, gpu_caps **caps, VkPhysicalDevice **physical,
                vly_gpu_info **infos, uint32_t *n, vly_error *err)
{
    int rc = query_all(instance, caps, physical, n, err);
    if (rc) return rc;
    *infos = malloc(*n * sizeof **infos);
    if (!*infos) {
        free(*caps);
        free(*physical);
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %u devices", *n);
    }
    for (uint32_t i = 0; i < *n; i++) (*infos)[i] = (*caps)[i].info;
    return 0;
}

int vly_gpu_list(vly_gpu_info **out, size_t *n, int *chosen, vly_error *err)
{
    *out = NULL;
    *n = 0;
    *chosen = -1;
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    gpu_caps *caps;
    VkPhysicalDevice *physical;
    uint32_t n_devices;
    int rc = gpu_instance_create(&instance, &messenger, err);
    if (rc) return rc;
    rc = list(instance, &caps, &physical, out, &n_devices, err);
    if (!rc) {
        free(caps);
        free(physical);
        *n = n_devices;
        vly_gpu_choose(*out, *n, NULL, chosen, NULL);
    }
    gpu_instance_destroy(instance, messenger);
    return rc;
}

static int choose_physical(vly_gpu *gpu, const char *choice, vly_error *err)
{
    gpu_caps *caps;
    VkPhysicalDevice *physical;
    vly_gpu_info *infos;
    uint32_t n;
    int rc = list(gpu->instance, &caps, &physical, &infos, &n, err);
    if (rc) return rc;
    int chosen;
    rc = vly_gpu_choose(infos, n, choice, &chosen, err);
    if (!rc) {
        gpu->physical = physical[chosen];
        gpu->caps = caps[chosen];
    }
    free(infos);
    free(caps);
    free(physical);
    return rc;
}

/* Enables what Volley needs and, of what its kernels have variants for, what there is. Robustness
 * features stay off: they cost speed, and every kernel checks its own ranges. */
static int open_device(vly_gpu *gpu, vly_error *err)
{
    const gpu_caps *caps = &gpu->caps;
    bool core13 = caps->info.api_version >= VK_API_VERSION_1_3;
    const char *names[8];
    uint32_t n_names = 0;
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
        .shaderIntegerDotProduct = caps->has_int_dot};
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
        .pNext = core13 || caps->int_dot_extension ? &dot : NULL,
        .subgroupSizeControl = caps->info.subgroup_size_control,
        .computeFullSubgroups = caps->info.subgroup_size_control};
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = core13 || caps->subgroup_size_extension ? &subgroup : subgroup.pNext,
        .bufferDeviceAddress = VK_TRUE,
        .timelineSemaphore = VK_TRUE,
        .hostQueryReset = VK_TRUE,
        .scalarBlockLayout = VK_TRUE,
        .shaderFloat16 = caps->info.f16,
        .vulkanMemoryModel = caps->info.coop_matrix};
    VkPhysicalDeviceVulkan11Features v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .pNext = &v12,
        .storageBuffer16BitAccess = caps->info.f16};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                          .pNext = &v11,
                                          .features.shaderInt64 = caps->info.int64};
    if (caps->int_dot_extension)
        names[n_names++] = VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
    if (caps->subgroup_size_extension)
        names[n_names++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
    if (caps->info.memory_budget) names[n_names++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coop = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
        .pNext = features.pNext,
        .cooperativeMatrix = VK_TRUE};
    if (caps->info.coop_matrix) {
        features.pNext = &coop;
        names[n_names++] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
    }
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = caps->queue_family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &(float){1}};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &features,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = n_names,
                               .ppEnabledExtensionNames = names};
    VkResult result = vkCreateDevice(gpu->physical, &info, NULL, &gpu->device);
    if (result) return gpu_fail_vk(err, result, "opening %s", caps->info.name);
    vkGetDeviceQueue(gpu->device, caps->queue_family, 0, &gpu->queue);
    return 0;
}

int vly_gpu_create(const char *choice, vly_gpu **out, vly_error *err)
{
    *out = NULL;
    vly_gpu *gpu = calloc(1, sizeof *gpu);
    if (!gpu) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a device");
    pthread_mutex_init(&gpu->mutex, NULL);
    pthread_mutex_init(&gpu->kernels_mutex, NULL);
    pthread_cond_init(&gpu->kernel_made, NULL);
    pthread_cond_init(&gpu->wake, NULL);
    int rc = gpu_instance_create(&gpu->instance, &gpu->messenger, err);
    if (!rc) rc = choose_physical(gpu, choice, err);
    if (!rc) rc = open_device(gpu, err);
    if (!rc) rc = gpu_submit_init(gpu, err);
    if (!rc) rc = gpu_to_host_create(gpu, err);
    if (!rc) rc = gpu_layouts_create(gpu, err);
    if (!rc) rc = gpu_pipeline_cache_load(gpu, err);
    if (!rc) rc = gpu_matrix_units_find(gpu, err);
    if (rc) {
        vly_gpu_destroy(gpu);
        return rc;
    }
    vly_log(VLY_LOG_INFO, "gpu", "device %u: %s, %s, %.1f of %.1f MiB available",
            gpu->caps.info.index, gpu->caps.info.name, gpu->caps.info.driver,
            MIB(gpu->caps.info.available_bytes), MIB(gpu->caps.info.memory_bytes));
    *out = gpu;
    return 0;
}

void vly_gpu_destroy(vly_gpu *gpu)
{
    if (!gpu) return;
    vly_gpu_loop_detach(gpu);
    if (gpu->device) {
        vkDeviceWaitIdle(gpu->device); /* fails at once on a lost device */
        gpu_pipeline_cache_save(gpu);
        gpu_kernels_destroy(gpu);
        gpu_submit_deinit(gpu);
        vly_gpu_commands_destroy(gpu->to_host);
        vkDestroyDevice(gpu->device, NULL);
    }
    gpu_instance_destroy(gpu->instance, gpu->messenger);
    pthread_cond_destroy(&gpu->wake);
    pthread_mutex_destroy(&gpu->mutex);
    pthread_cond_destroy(&gpu->kernel_made);
    pthread_mutex_destroy(&gpu->kernels_mutex);
    free(gpu);
}

const vly_gpu_info *vly_gpu_get_info(const vly_gpu *gpu)
{
    return &gpu->caps.info;
}

uint64_t vly_gpu_available_bytes(const vly_gpu *gpu)
{
    return gpu_caps_available(gpu->physical, &gpu->caps, gpu->device_heap_used);
}

uint64_t vly_gpu_peak_bytes(const vly_gpu *gpu)
{
    return gpu->device_heap_peak;
}
