/* lua_threads.c: a host program with threads, for specs: some that keep libc's locks busy, and some that run
 * Lua states of their own. */
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX = 64 };

static pthread_t busy[MAX];
static int nbusy;
static atomic_int stopping;
static atomic_long rounds;

/* malloc's arenas, the environment's lock and stdio's are taken and given back all the time. */
static void *work(void *arg)
{
    unsigned seed = (unsigned)(size_t)arg;
    void *kept[16] = {0};
    while (!atomic_load(&stopping)) {
        int i = rand_r(&seed) % 16;
        free(kept[i]);
        kept[i] = malloc(64 + (size_t)rand_r(&seed) % 200000);
        if (kept[i]) memset(kept[i], i, 64);
        rounds += getenv("PATH") ? 1 : 2;
    }
    for (int i = 0; i < 16; i++) free(kept[i]);
    return NULL;
}

/* start(n) */
static int l_start(lua_State *L)
{
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n > 0 && n <= MAX && nbusy == 0, 1, "1 to 64, once");
    atomic_store(&stopping, 0);
    for (; nbusy < n; nbusy++)
        if (pthread_create(&busy[nbusy], NULL, work, (void *)(size_t)(nbusy + 1)) != 0)
            return luaL_error(L, "pthread_create");
    return 0;
}

/* stop() -> how many rounds they made */
static int l_stop(lua_State *L)
{
    atomic_store(&stopping, 1);
    while (nbusy > 0) pthread_join(busy[--nbusy], NULL);
    lua_pushinteger(L, rounds);
    return 1;
}

struct job {
    pthread_t thread;
    const char *text, *path, *cpath;
    char answer[512];
};

static void set_path(lua_State *L, const char *field, const char *value)
{
    lua_getglobal(L, "package");
    lua_pushstring(L, value);
    lua_setfield(L, -2, field);
    lua_pop(L, 1);
}

static void *run_state(void *arg)
{
    struct job *job = arg;
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    set_path(L, "path", job->path);
    set_path(L, "cpath", job->cpath);
    if (luaL_dostring(L, job->text)) strcpy(job->answer, "raised: ");
    const char *answer = luaL_tolstring(L, -1, NULL);
    strncat(job->answer, answer, sizeof job->answer - strlen(job->answer) - 1);
    lua_close(L);
    return NULL;
}

/* states(n, text) -> list of what the chunk answered in each of n threads, as strings */
static int l_states(lua_State *L)
{
    static struct job jobs[MAX];
    lua_Integer n = luaL_checkinteger(L, 1);
    const char *text = luaL_checkstring(L, 2);
    luaL_argcheck(L, n > 0 && n <= MAX, 1, "1 to 64");
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_getfield(L, -2, "cpath");
    for (int i = 0; i < n; i++) {
        jobs[i] = (struct job){.text = text, .path = lua_tostring(L, -2), .cpath = lua_tostring(L, -1)};
        if (pthread_create(&jobs[i].thread, NULL, run_state, &jobs[i]) != 0) abort();
    }
    lua_createtable(L, (int)n, 0);
    for (int i = 0; i < n; i++) {
        pthread_join(jobs[i].thread, NULL);
        lua_pushstring(L, jobs[i].answer);
        lua_seti(L, -2, i + 1);
    }
    return 1;
}

int luaopen_threads(lua_State *L);
int luaopen_threads(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"start", l_start}, {"stop", l_stop}, {"states", l_states}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
