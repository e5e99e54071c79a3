// What the files of the runtime share: errors, devices, streams, tasks and graphs.
//
// The runtime answers the calls of ACL that torch_npu makes. Memory of a device is memory of this machine. What is given to a
// stream is done before the call returns, unless the stream is captured, updates a task group, or waits for something.
#pragma once

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "waits.h"

// Numbers as ACL has them.
enum {
  OK = 0,
  BAD_PARAMETER = 107000,
  BAD_DEVICE = 107001,
  CAPTURE_UNJOINED = 107025,
  STREAM_CAPTURED = 107027,
  EVENT_CAPTURED = 107028,
  NOT_CAPTURED = 107029,
  CAPTURE_REFUSES = 107030,
  BAD_TASK_GROUP = 107033,
  CAPTURE_UNMATCHED = 107036,
  UPDATE_REFUSED = 107040,
  NOT_SUPPORTED = 207000,
  OUT_OF_MEMORY = 207001,
  TASK_FAILED = 507011,
  NEVER_DONE = 507046,
};

enum { MOST_DEVICES = 64 };

// Remembers a sentence for aclGetRecentErrMsg of this thread; returns `code`.
int software_npu_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The number that an environment variable holds, or `otherwise`.
long long software_npu_number(const char *variable, long long otherwise);

// The device of this thread.
int software_npu_device(void);

// One thing that a stream does.
typedef struct task {
  int (*run)(void *);    // returns OK or an error
  int (*ready)(void *);  // whether it may be done yet; NULL: always
  void (*drop)(void *);  // frees `data`; NULL: nothing to free
  void *data;
  int running;
  char name[120];
} task;

enum { CAPTURE_NONE, CAPTURE_ACTIVE, CAPTURE_INVALID };

// A captured graph: the tasks in the order in which they were given.
typedef struct graph {
  uint32_t id;
  int state;
  task **tasks;
  int count, room;
  int group_from;        // first task of the group that is open; -1: none is
  int queued;            // tasks of it that wait in streams
  int destroyed;         // freed as soon as none waits
  struct stream *origin;
  struct group *groups;
  long replays, updates;
  struct graph *next;
} graph;

typedef struct group {
  graph *of;
  int first, count;
  struct group *next;
} group;

typedef struct waiting {
  task *what;
  graph *of;  // whose task it is; NULL: the stream's own
  struct waiting *next;
} waiting;

typedef struct stream {
  int id, device;
  graph *captured_by;
  int joined;  // in a capture: another stream waits for all that this one was given
  group *updates;
  int updated;  // tasks of the group so far
  waiting *head, *tail;
  int draining;
  int error;  // of a task that was done after the call which gave it had returned
  char failure[400];
  struct stream *next;
} stream;

extern pthread_mutex_t software_npu_lock;  // guards streams, graphs and events; not held while a task runs
extern stream *software_npu_streams;
extern int software_npu_busy;  // streams that do not do at once what they are given; read without the lock

#define LOCKED \
  __attribute__((cleanup(software_npu_unlock))) pthread_mutex_t *held = &software_npu_lock; \
  pthread_mutex_lock(held)
static inline void software_npu_unlock(pthread_mutex_t **held) { pthread_mutex_unlock(*held); }

// All of these want the lock to be held.
stream *software_npu_stream(void *handle);  // NULL is the stream without a name of this thread's device
void software_npu_count_busy(void);
void software_npu_enqueue(stream *s, task *what, graph *of);
int software_npu_drain(stream *s);
int software_npu_go_on(stream *s);  // the same, by another thread where this one must not
int software_npu_give(stream *s, task what);  // does, records, or queues it
int software_npu_wait_while(int (*still)(void *), void *data);
int software_npu_wake(void);  // somebody may go on
void software_npu_drop(task *what);
void software_npu_forget(graph *g);  // frees it if it may be
int software_npu_device_wait(int device);

// How many captures went well, how often a graph was executed, and how many tasks of one were given anew; of graphs that are gone, too.
enum { GRAPH_CAPTURES, GRAPH_REPLAYS, GRAPH_UPDATES, GRAPH_COUNTS };
extern long software_npu_graph_counts[GRAPH_COUNTS];

// Whether this thread has said that it does nothing a capture could miss.
int software_npu_is_relaxed(void);

// The states of a stream that a caller from outside asks for.
enum { STREAM_AT_ONCE, STREAM_CAPTURING, STREAM_UPDATING, STREAM_BLOCKED };
