#include "gpu/gpu_internal.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_DRIVER                                                                                  \
    "no Vulkan driver found: install your GPU's driver, or the package mesa-vulkan-drivers to "    \
    "run "                                                                                         \
    "on the processor"

static const char *result_name(VkResult result)
{
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return "out of host memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return "out of device memory";
    case VK_ERROR_INITIALIZATION_FAILED:
        return "initialization failed";
    case VK_ERROR_DEVICE_LOST:
        return "device lost";
    case VK_ERROR_MEMORY_MAP_FAILED:
        return "memory could not be mapped";
    case VK_ERROR_LAYER_NOT_PRESENT:
        return "layer not present";
    case VK_ERROR_EXTENSION_NOT_PRESENT:
        return "extension not present";
    case VK_ERROR_FEATURE_NOT_PRESENT:
        return "feature not present";
    case VK_ERROR_INCOMPATIBLE_DRIVER:
        return "incompatible driver";
    case VK_ERROR_TOO_MANY_OBJECTS:
        return "too many objects";
    case VK_ERROR_FRAGMENTED_POOL:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
        return "out of pool memory";
    default:
        return "error";
    }
}

int gpu_fail_vk(vly_error *err, VkResult result, const char *format, ...)
{
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    int code = result == VK_ERROR_OUT_OF_HOST_MEMORY     ? VLY_E_HOST_MEMORY
               : result == VK_ERROR_OUT_OF_DEVICE_MEMORY ? VLY_E_DEVICE_MEMORY
               : result == VK_ERROR_DEVICE_LOST          ? VLY_E_DEVICE_LOST
                                                         : VLY_E_DEVICE;
    return vly_fail(err, code, "%s: %s (VkResult %d)", what, result_name(result), (int)result);
}

#ifdef VLY_VALIDATE
#define VALIDATION_LAYER "VK_LAYER_KHRONOS_validation"

/* A validation error is a bug of Volley's: the one place below main.c that ends the program. */
static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data,
                                                 void *arg)
{
    (void)types;
    (void)arg;
    if (severity < VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT) {
        vly_log(VLY_LOG_WARN, "gpu", "%s", data->pMessage);
        return VK_FALSE;
    }
    fprintf(stderr, "%s\nvalidation error is fatal\n", data->pMessage);
    abort();
}

static VkDebugUtilsMessengerCreateInfoEXT messenger_info(void)
{
    return (VkDebugUtilsMessengerCreateInfoEXT){
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = on_message,
    };
}

static VkResult create_instance(const VkInstanceCreateInfo *plain, VkInstance *out,
                                VkDebugUtilsMessengerEXT *messenger)
{
    const char *layer = VALIDATION_LAYER, *extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    VkDebugUtilsMessengerCreateInfoEXT messages = messenger_info();
    VkInstanceCreateInfo info = *plain;
    info.pNext = &messages; /* tells of errors in creating and destroying the instance itself */
    info.enabledLayerCount = 1;
    info.ppEnabledLayerNames = &layer;
    info.enabledExtensionCount = 1;
    info.ppEnabledExtensionNames = &extension;
    VkResult result = vkCreateInstance(&info, NULL, out);
    if (result) return result;
    PFN_vkCreateDebugUtilsMessengerEXT create = (PFN_vkCreateDebugUtilsMessengerEXT)(void (*)(
        void))vkGetInstanceProcAddr(*out, "vkCreateDebugUtilsMessengerEXT");
    result = create ? create(*out, &messages, NULL, messenger) : VK_ERROR_EXTENSION_NOT_PRESENT;
    if (result) {
        vkDestroyInstance(*out, NULL);
        *out = VK_NULL_HANDLE;
    }
    return result;
}
#else
static VkResult create_instance(const VkInstanceCreateInfo *info, VkInstance *out,
                                VkDebugUtilsMessengerEXT *messenger)
{
    (void)messenger;
    return vkCreateInstance(info, NULL, out);
}
#endif

int gpu_instance_create(VkInstance *out, VkDebugUtilsMessengerEXT *messenger, vly_error *err)
{
    *out = VK_NULL_HANDLE;
    *messenger = VK_NULL_HANDLE;
    uint32_t version = VK_API_VERSION_1_0;
    vkEnumerateInstanceVersion(&version);
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "volley",
        .pEngineName = "volley",
        .apiVersion = version >= VK_API_VERSION_1_3 ? VK_API_VERSION_1_3 : VK_API_VERSION_1_2,
    };
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &application,
    };
    VkResult result = create_instance(&info, out, messenger);
    if (result == VK_ERROR_LAYER_NOT_PRESENT)
        return vly_fail(err, VLY_E_NO_DEVICE,
                        "this build needs the Vulkan validation layer: install the package "
                        "vulkan-validationlayers, or build without config=debug");
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER) return vly_fail(err, VLY_E_NO_DEVICE, NO_DRIVER);
    if (result)
        return vly_fail(err, VLY_E_NO_DEVICE, "vkCreateInstance: %s (VkResult %d); %s",
                        result_name(result), (int)result, NO_DRIVER);
    return 0;
}

void gpu_instance_destroy(VkInstance instance, VkDebugUtilsMessengerEXT messenger)
{
    if (!instance) return;
    if (messenger) {
        PFN_vkDestroyDebugUtilsMessengerEXT destroy =
            (PFN_vkDestroyDebugUtilsMessengerEXT)(void (*)(void))vkGetInstanceProcAddr(
                instance, "vkDestroyDebugUtilsMessengerEXT");
        if (destroy) destroy(instance, messenger, NULL);
    }
    vkDestroyInstance(instance, NULL);
}

int gpu_instance_devices(VkInstance instance, VkPhysicalDevice **out, uint32_t *n, vly_error *err)
{
    *out = NULL;
    *n = 0;
    VkResult result = vkEnumeratePhysicalDevices(instance, n, NULL);
    if (result == VK_ERROR_INITIALIZATION_FAILED || (!result && *n == 0))
        return vly_fail(err, VLY_E_NO_DEVICE, NO_DRIVER);
    if (result) return gpu_fail_vk(err, result, "vkEnumeratePhysicalDevices");
    *out = malloc(*n * sizeof **out);
    if (!*out) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %u devices", *n);
    result = vkEnumeratePhysicalDevices(instance, n, *out);
    if (result < 0) {
        free(*out);
        *out = NULL;
        return gpu_fail_vk(err, result, "vkEnumeratePhysicalDevices");
    }
    return 0;
}
