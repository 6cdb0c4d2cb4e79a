/* For LD_PRELOAD, between a program and the Vulkan loader: from when the file $LOSE_DEVICE is there
 * the device is lost. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define VK_ERROR_DEVICE_LOST (-4)

/* The functions as the loader has them. Handles are pointers, or as large. */
int vkQueueSubmit(void *queue, uint32_t n, const void *infos, uint64_t fence);
int vkWaitSemaphores(void *device, const void *info, uint64_t timeout_ns);
int vkGetSemaphoreCounterValue(void *device, uint64_t semaphore, uint64_t *value);

static int is_lost(void)
{
    const char *path = getenv("LOSE_DEVICE");
    return path && access(path, F_OK) == 0;
}

int vkQueueSubmit(void *queue, uint32_t n, const void *infos, uint64_t fence)
{
    static int (*real)(void *, uint32_t, const void *, uint64_t);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "vkQueueSubmit");
    return is_lost() ? VK_ERROR_DEVICE_LOST : real(queue, n, infos, fence);
}

int vkWaitSemaphores(void *device, const void *info, uint64_t timeout_ns)
{
    static int (*real)(void *, const void *, uint64_t);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "vkWaitSemaphores");
    int result = real(device, info, timeout_ns);
    return is_lost() ? VK_ERROR_DEVICE_LOST : result;
}

int vkGetSemaphoreCounterValue(void *device, uint64_t semaphore, uint64_t *value)
{
    static int (*real)(void *, uint64_t, uint64_t *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "vkGetSemaphoreCounterValue");
    return is_lost() ? VK_ERROR_DEVICE_LOST : real(device, semaphore, value);
}
