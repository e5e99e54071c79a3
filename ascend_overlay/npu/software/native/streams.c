// Streams: what they are given is done at once, recorded for a graph, or kept until what they wait for has come.
#include "runtime.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Recursive, since what a task leaves behind may call back when it is freed.
pthread_mutex_t software_npu_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
stream *software_npu_streams;
int software_npu_busy;

static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int running;    // tasks that a thread is in the middle of
static int wanted;     // the thread below has something to look at
static int last_id;

static stream *enter(stream *s, int device) {
  s->id = last_id++;
  s->device = device;
  s->next = software_npu_streams;
  software_npu_streams = s;
  return s;
}

stream *software_npu_stream(void *handle) {
  static stream without_a_name[MOST_DEVICES];
  static int entered[MOST_DEVICES];
  if (handle) return handle;
  int device = software_npu_device();
  if (!entered[device]) enter(&without_a_name[device], device), entered[device] = 1;
  return &without_a_name[device];
}

void software_npu_count_busy(void) {
  int busy = 0;
  for (stream *s = software_npu_streams; s; s = s->next) busy += s->captured_by || s->updates || s->head;
  // One store of the final number: whoever reads it without the lock must not see a zero in between.
  __atomic_store_n(&software_npu_busy, busy, __ATOMIC_SEQ_CST);
}

// For the operators: in which state a stream is.
int software_npu_state(void *handle) {
  if (!__atomic_load_n(&software_npu_busy, __ATOMIC_SEQ_CST)) return STREAM_AT_ONCE;
  LOCKED;
  stream *s = software_npu_stream(handle);
  return s->updates ? STREAM_UPDATING : s->captured_by ? STREAM_CAPTURING : s->head ? STREAM_BLOCKED : STREAM_AT_ONCE;
}

// For the operators: a capture that met what it cannot hold is of no use any more.
void software_npu_invalidate(void *handle) {
  LOCKED;
  stream *s = software_npu_stream(handle);
  if (s->captured_by) s->captured_by->state = CAPTURE_INVALID;
}

void software_npu_drop(task *what) {
  if (what->drop) what->drop(what->data);
  free(what);
}

void software_npu_enqueue(stream *s, task *what, graph *of) {
  waiting *one = calloc(1, sizeof *one);
  one->what = what;
  one->of = of;
  if (of) of->queued++;
  if (s->tail) s->tail->next = one;
  else s->head = one;
  s->tail = one;
  software_npu_count_busy();
}

static void leave(stream *s) {
  waiting *one = s->head;
  s->head = one->next;
  if (!s->head) s->tail = NULL;
  if (!one->of) {
    // Without the lock: it may hold memory whose allocator has a lock of its own.
    pthread_mutex_unlock(&software_npu_lock);
    software_npu_drop(one->what);
    pthread_mutex_lock(&software_npu_lock);
  } else if (!--one->of->queued) {
    software_npu_forget(one->of);
  }
  free(one);
}

// Does what is queued, up to what is not ready. The task that runs stays at the head: until then the stream is not idle.
int software_npu_drain(stream *s) {
  if (s->draining) return OK;
  int error = OK;
  s->draining = 1;
  while (s->head && !error) {
    task *now = s->head->what;
    if (now->ready && !now->ready(now->data)) break;
    running++, now->running++;
    pthread_mutex_unlock(&software_npu_lock);
    error = now->run(now->data);
    pthread_mutex_lock(&software_npu_lock);
    running--, now->running--;
    leave(s);
  }
  // As on a card, what follows an error is not done.
  while (error && s->head) leave(s);
  s->draining = 0;
  software_npu_count_busy();
  pthread_cond_broadcast(&changed);
  return error;
}

// What becomes free is done by a thread of its own, as on a card: who sets an event may be waited for by whoever holds Python's lock.
static void *go_on(void *nothing) {
  LOCKED;
  for (;;) {
    while (!wanted) pthread_cond_wait(&changed, &software_npu_lock);
    wanted = 0;
    for (stream *s = software_npu_streams; s; s = s->next) {
      waiting *before = s->head;
      if (!before || s->draining) continue;
      int error = software_npu_drain(s);
      if (error) {
        extern const char *aclGetRecentErrMsg(void);
        s->error = error;
        snprintf(s->failure, sizeof s->failure, "%s", aclGetRecentErrMsg());
      }
      // It may have set what another stream waits for.
      wanted |= s->head != before;
    }
    pthread_cond_broadcast(&changed);
  }
  return NULL;
}

int software_npu_wake(void) {
  static int started;
  pthread_t thread;
  if (!__atomic_load_n(&software_npu_busy, __ATOMIC_SEQ_CST)) return OK;
  if (!started && pthread_create(&thread, NULL, go_on, NULL)) return software_npu_fail(TASK_FAILED, "no thread can be started.");
  if (!started) pthread_detach(thread);
  started = wanted = 1;
  pthread_cond_broadcast(&changed);
  return OK;
}

// Whether this thread is one of Python's. Others, torch_npu's for its queue first of all, may be waited for by whoever holds
// Python's lock, so they must not do what may need it.
static int is_pythons(void) {
  static void *(*state)(void);
  static int looked;
  if (!looked) state = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyGILState_GetThisThreadState"), looked = 1;
  return !state || state();
}

int software_npu_go_on(stream *s) { return is_pythons() ? software_npu_drain(s) : software_npu_wake(); }

int software_npu_wait_while(int (*still)(void *), void *data) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += software_npu_number("ASCEND_OVERLAY_NPU_PATIENCE", 5);
  while (still(data)) {
    if (pthread_cond_timedwait(&changed, &software_npu_lock, &until) && !running && !wanted) return still(data);
  }
  return 0;
}

// A task that takes the place of one of a graph.
typedef struct {
  graph *of;
  task *old, made;
} replacement;

static int replace(replacement *now) {
  if (now->old->running) return software_npu_fail(UPDATE_REFUSED, "%s is updated while it runs.", now->made.name);
  // In place: a replay that waits may name it already.
  task was = *now->old;
  *now->old = now->made;
  now->made.drop = NULL;
  if (was.drop) was.drop(was.data);
  return OK;
}

static int replace_queued(void *data) {
  LOCKED;
  return replace(data);
}

static void drop_queued(void *data) {
  LOCKED;
  replacement *gone = data;
  if (gone->made.drop) gone->made.drop(gone->made.data);
  if (!--gone->of->queued) software_npu_forget(gone->of);
  free(gone);
}

static int update(stream *s, task what) {
  group *g = s->updates;
  if (s->updated >= g->count) return software_npu_fail(UPDATE_REFUSED, "the update has more tasks than its group: %s.", what.name);
  task *old = g->of->tasks[g->first + s->updated];
  if (strcmp(old->name, what.name)) {
    return software_npu_fail(UPDATE_REFUSED, "the update gives %s where the group has %s.", what.name, old->name);
  }
  replacement now = {g->of, old, what};
  if (!s->head) {
    int error = replace(&now);
    if (error) return error;
  } else {
    // The stream waits for something: what updates is done in its turn, as CANN has it, where it is asynchronous.
    replacement *later = malloc(sizeof now);
    *later = now;
    task *queued = malloc(sizeof *queued);
    *queued = (task){.run = replace_queued, .drop = drop_queued, .data = later};
    snprintf(queued->name, sizeof queued->name, "update of %.40s", what.name);
    g->of->queued++;
    software_npu_enqueue(s, queued, NULL);
  }
  s->updated++;
  g->of->updates++;
  software_npu_graph_counts[GRAPH_UPDATES]++;
  return OK;
}

static int record(graph *g, task what) {
  if (g->state != CAPTURE_ACTIVE) return software_npu_fail(STREAM_CAPTURED, "the capture is no longer valid; it met something that cannot be captured.");
  if (g->count == g->room) {
    g->room = g->room ? 2 * g->room : 64;
    g->tasks = realloc(g->tasks, g->room * sizeof *g->tasks);
  }
  g->tasks[g->count] = malloc(sizeof what);
  *g->tasks[g->count++] = what;
  return OK;
}

int software_npu_give(stream *s, task what) {
  int error;
  if (s->updates || s->captured_by) {
    error = s->updates ? update(s, what) : record(s->captured_by, what);
    s->joined = 0;
    if (error && what.drop) what.drop(what.data);
    return error;
  }
  int alone = !s->head;
  task *kept = malloc(sizeof what);
  *kept = what;
  software_npu_enqueue(s, kept, NULL);
  return alone ? software_npu_drain(s) : software_npu_go_on(s);
}

// For the operators: gives a stream a task of their own.
int software_npu_push(void *handle, int (*run)(void *), void (*drop)(void *), void *data, const char *name) {
  LOCKED;
  task what = {.run = run, .drop = drop, .data = data};
  snprintf(what.name, sizeof what.name, "%s", name);
  return software_npu_give(software_npu_stream(handle), what);
}

int aclrtCreateStream(void **handle) {
  LOCKED;
  *handle = enter(calloc(1, sizeof(stream)), software_npu_device());
  return OK;
}
int aclrtCreateStreamWithConfig(void **handle, uint32_t priority, uint32_t flags) { return aclrtCreateStream(handle); }

int aclrtDestroyStream(void *handle) {
  LOCKED;
  stream *gone = handle;
  if (gone->draining || gone->captured_by) return software_npu_fail(STREAM_CAPTURED, "a stream that is in use is destroyed.");
  while (gone->head) leave(gone);
  for (stream **s = &software_npu_streams; *s; s = &(*s)->next) {
    if (*s != gone) continue;
    *s = gone->next;
    free(gone);
    break;
  }
  software_npu_count_busy();
  return OK;
}
int aclrtDestroyStreamForce(void *handle) { return aclrtDestroyStream(handle); }

int aclrtStreamGetId(void *handle, int32_t *id) {
  LOCKED;
  *id = software_npu_stream(handle)->id;
  return OK;
}

static int has_work(void *s) { return ((stream *)s)->head != NULL; }

static int wait_for(stream *s) {
  if (s->captured_by) {
    s->captured_by->state = CAPTURE_INVALID;
    return software_npu_fail(CAPTURE_REFUSES, "a stream that is being captured cannot be waited for.");
  }
  if (software_npu_wait_while(has_work, s)) {
    return software_npu_fail(NEVER_DONE, "the stream waits for what nobody does: %s.", s->head->what->name);
  }
  int error = s->error;
  s->error = OK;
  return error ? software_npu_fail(error, "%s", s->failure) : OK;
}

int software_npu_device_wait(int device) {
  for (stream *s = software_npu_streams; s; s = s->next) {
    if (s->device != device || (s->captured_by && software_npu_is_relaxed())) continue;
    int error = wait_for(s);
    if (error) return error;
  }
  return OK;
}

int aclrtSynchronizeStream(void *handle) {
  software_npu_waited(WAIT_STREAM);
  LOCKED;
  return wait_for(software_npu_stream(handle));
}
int aclrtSynchronizeStreamWithTimeout(void *handle, int32_t milliseconds) { return aclrtSynchronizeStream(handle); }

int aclrtSynchronizeDevice(void) {
  software_npu_waited(WAIT_DEVICE);
  LOCKED;
  return software_npu_device_wait(software_npu_device());
}
int aclrtSynchronizeDeviceWithTimeout(int32_t milliseconds) { return aclrtSynchronizeDevice(); }

int aclrtStreamQuery(void *handle, int *done) {
  LOCKED;
  *done = !software_npu_stream(handle)->head;
  return OK;
}
