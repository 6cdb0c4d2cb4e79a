/* Linked into what config=asan and config=tsan build, since Vulkan drivers are not built with them.
 */

int dlclose(void *library);
const char *__tsan_default_suppressions(void);

/* What a driver leaves reachable when it is unloaded would count as leaked, without a name that
 * tells it from Volley's own. So libraries stay loaded. */
int dlclose(void *library)
{
    (void)library;
    return 0;
}

/* Races between a driver's threads, and with a library that was given a file descriptor which a
 * driver had closed. */
const char *__tsan_default_suppressions(void)
{
    return "race:libvulkan_\n";
}
