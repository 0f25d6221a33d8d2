#define _GNU_SOURCE
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#include "processor.h"

enum { N_SPINS = 1000, N_PATIENT_SPINS = 100000, CACHE_LINE_BYTES = 64 };
/* Longer than the calls of a network that one thread runs alone: waking a sleeper takes 50 us. */
#define SPIN_NS INT64_C(5000000)

/* A thread, and its share of every launch: the tasks from its number on, as many apart as there are
 * threads. The caller takes the share over when the thread is late because it sleeps or somebody
 * else runs on its core: a launch is not over before all shares of it were taken and done. */
typedef struct {
  _Alignas(CACHE_LINE_BYTES) atomic_uint taken, done; /* the last launch of which its share was */
  int thread, core, result;
} Helper;

static Helper helpers[MAX_HELPERS];
static int n_helpers;

/* What is launched; written before n_launches grows, read by who has taken a share of it. */
static struct {
  PoolWork work;
  void *context;
  int n_tasks;
} launch;

static _Alignas(CACHE_LINE_BYTES) atomic_uint n_launches;
static _Alignas(CACHE_LINE_BYTES) atomic_int n_asleep;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t launched = PTHREAD_COND_INITIALIZER;
static _Thread_local bool is_in_task;

int pool_size(void) { return is_in_task ? 1 : 1 + n_helpers; }

static int run_share(int thread) {
  int result = 0;
  is_in_task = true;
  for (int task = thread; task < launch.n_tasks && !result; task += 1 + n_helpers)
    result = launch.work(task, launch.context);
  is_in_task = false;
  return result;
}

/* Shares of earlier launches were all taken, so who saw an earlier one only gets nothing. */
static bool take(Helper *helper, unsigned number) {
  unsigned last = atomic_load(&helper->taken);
  return (int)(number - last) > 0 && atomic_compare_exchange_strong(&helper->taken, &last, number);
}

static bool spin_until_launch(unsigned seen) {
  int64_t deadline_ns = now_ns() + SPIN_NS;
  do {
    for (int i = 0; i < N_SPINS; i++) {
      if (atomic_load_explicit(&n_launches, memory_order_acquire) != seen) return true;
      relax();
    }
  } while (now_ns() < deadline_ns);
  return false;
}

/* Sleepers count themselves before they look a last time, launches are counted before somebody
 * looks for sleepers: one of the two sees the other. */
static void sleep_until_launch(unsigned seen) {
  pthread_mutex_lock(&mutex);
  atomic_fetch_add(&n_asleep, 1);
  while (atomic_load(&n_launches) == seen) pthread_cond_wait(&launched, &mutex);
  atomic_fetch_sub(&n_asleep, 1);
  pthread_mutex_unlock(&mutex);
}

static void *help(void *argument) {
  Helper *self = argument;
  self->result = pin_to_core((uint64_t)self->core) ? 0 : errno;
  flush_subnormals();
  atomic_store(&self->done, 1);
  for (unsigned seen = 1;;) {
    if (!spin_until_launch(seen)) sleep_until_launch(seen);
    seen = atomic_load(&n_launches);
    if (!take(self, seen)) continue;
    self->result = run_share(self->thread);
    atomic_store_explicit(&self->done, seen, memory_order_release);
  }
  return NULL;
}

/* The helper may be late because it shares its core: let others run then. */
static int await(Helper *helper, unsigned number) {
  for (int64_t i = 0; atomic_load_explicit(&helper->done, memory_order_acquire) != number; i++) {
    if (i < N_PATIENT_SPINS) relax();
    else sched_yield();
  }
  return helper->result;
}

bool pool_start(const int *cores, int n, int *refused) {
  pthread_attr_t attributes;
  pthread_t thread;
  n_helpers = n;
  atomic_store(&n_launches, 1); /* the first one: to pin themselves */
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, POOL_STACK_BYTES);
  for (*refused = 0; *refused < n; ++*refused) {
    Helper *helper = &helpers[*refused];
    *helper = (Helper){.taken = 1, .thread = 1 + *refused, .core = cores[*refused]};
    if ((errno = pthread_create(&thread, &attributes, help, helper))) return false;
    if ((errno = await(helper, 1))) return false;
  }
  return true;
}

int pool_run(PoolWork work, void *context, int n_tasks) {
  int result = 0;
  if (n_tasks == 1 || pool_size() == 1) {
    for (int task = 0; task < n_tasks && !result; task++) result = work(task, context);
    return result;
  }
  launch.work = work;
  launch.context = context;
  launch.n_tasks = n_tasks;
  unsigned number = atomic_fetch_add(&n_launches, 1) + 1;
  if (atomic_load(&n_asleep)) {
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&launched);
    pthread_mutex_unlock(&mutex);
  }
  result = run_share(0);
  for (int i = 0; i < n_helpers; i++) {
    int other = take(&helpers[i], number) ? run_share(1 + i) : await(&helpers[i], number);
    if (!result) result = other;
  }
  return result;
}
