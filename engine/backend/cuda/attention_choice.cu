// SPDX-License-Identifier: MIT
//
// attention_choice.cu: whether heads of bf16 are attended by cuDNN or by the kernels of kernels/attention_bf16.cu. Of each
// shape and direction both are timed when it is first asked for, and the choice is kept with those of products (choices.h).
// The own kernels are taken where the library is absent, refuses the shape, has no room, fails, or is not faster by a
// margin that timing noise does not reach; the notes say which it was. The plan that was taken is kept beside the choice
// (cudnn_plans.h), and found there by who follows it.
//
// The library's reproducible backward keeps a (T, T) matrix of bf16 for each head that it works on. So that they need
// not all lie there at once, a batch is cut into slices, whose number is a part of the choice.
//
// MOONBOW_CUDNN names the library, or none ("") ; otherwise it is libcudnn.so.9 where the loader finds it. MOONBOW_TUNE=0
// takes its first plan without timing.
#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>

#include "backend/cuda/attention.h"
#include "backend/cuda/capture.h"
#include "backend/cuda/choices.h"
#include "backend/cuda/cudnn_plans.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/product.h"
#include "backend/cuda/timing.h"

namespace mbk {
namespace {

using namespace cudnn;

// Operations of a forward; bytes of a slice's (T, T) matrices.
#ifdef __CUDACC__
constexpr double WORTH_ASKING = 5e8;
constexpr int64_t MOST_SQUARES = 400 << 20;
#else
constexpr double WORTH_ASKING = 1e5;
constexpr int64_t MOST_SQUARES = 1 << 20;
#endif
constexpr double MARGIN = 0.97; // of the own kernel's time
// Plans are compiled, some tenths of a second each: so many are tried for a shape, and so many shapes in a process.
constexpr int PLANS = 3, RUNS = 3, MOST_SHAPES = 24, WORKSPACE_SLOT = 6, LSE_SLOT = 0;

// What a choice says, in the words of Choice::algorithm.
enum Word { WHO, VERSION, CANDIDATE, SLICES, REASON, OTHER_NANOSECONDS };
enum Who { OWN = 1, LIBRARY = 2 };
enum Reason { BY_TIME, UNTIMED, NO_LIBRARY, REFUSED, NO_ROOM, FAILED, MANY };

bool bits_repeat = true;

// ----- the library ------------------------------------------------------------------------------------------------------

struct Opened {
  Library library;
  void *handle = nullptr;
  std::string why; // there is no handle
};

void open(Opened *out) {
  const char *wish = getenv("MOONBOW_CUDNN");
  if (wish && !*wish) return void(out->why = "MOONBOW_CUDNN wants none");
#ifndef __CUDACC__
  if (!wish) return void(out->why = "not looked for on the host");
#endif
  if (!open_library(&out->library, &out->why, wish ? wish : "libcudnn.so.9")) return;
#ifndef __CUDACC__
  if (!dlsym(out->library.opened, "runs_on_the_host")) return void(out->why = "the host cannot run it");
#endif
  Calls calls(&out->library);
  calls.check(out->library.cudnnCreate(&out->handle), "cudnnCreate");
#ifdef __CUDACC__
  if (calls.good()) calls.check(out->library.cudnnSetStream(out->handle, stream()), "cudnnSetStream");
#endif
  if (!calls.good()) out->handle = nullptr;
  out->why = calls.problem;
}

// Opened when it is first asked for; never closed, as its plans live as long as the process.
Opened &opened() {
  static Opened *here = nullptr;
  if (!here) open(here = new Opened);
  return *here;
}

// Is work done as it is asked for, and not noted for later or left out?
bool is_done_now() {
#ifdef __CUDACC__
  return !is_capturing();
#else
  return !is_capturing() && !is_dry();
#endif
}

// ----- what is asked for --------------------------------------------------------------------------------------------------

struct Job {
  AttentionCase c;
  AttentionArrays arrays;
  std::function<mb_status()> own;
  bool fits; // all arrays are there, on boundaries and in whole packs
};

Job job_of(const mbi_attention *s, const float *lse) {
  Job job;
  memset(&job.c, 0, sizeof job.c);
  memset(&job.arrays, 0, sizeof job.arrays);
  job.c.batch = s->batch, job.c.time = s->time, job.c.heads = s->heads, job.c.width = s->width;
  job.arrays.lse = const_cast<float *>(lse), job.arrays.scale = (float)s->scale;
  job.fits = lse != nullptr;
  return job;
}

// Strides of a size 1 are free: they become those of a whole array, so that a shape has one name.
void give(Job *job, Role role, const mbi_heads &x) {
  AttentionCase &c = job->c;
  int64_t head = c.heads == 1 ? c.width : x.head, batch = c.batch == 1 ? c.time * x.time : x.batch;
  job->fits = job->fits && x.data && on_boundary(x.data) && (x.time | head | batch) % 8 == 0 && x.time > 0 && head > 0 && batch > 0;
  c.stride[role][0] = batch, c.stride[role][1] = x.time, c.stride[role][2] = head;
  job->arrays.heads[role] = x.data;
}

bool is_large(const AttentionCase &c) {
  return 2.0 * (double)c.batch * (double)c.heads * (double)c.time * (double)c.time * (double)c.width >= WORTH_ASKING;
}

// A slice of the batch; the squares of one are to be at most `most` bytes.
int64_t slices_of(const AttentionCase &c, int64_t most) {
  int64_t square = c.heads * c.time * c.time * 2, slices = 1;
  while (c.backward && c.deterministic && slices < c.batch && (c.batch % slices || c.batch / slices * square > most)) slices++;
  return slices;
}

// ----- how it is done ------------------------------------------------------------------------------------------------------

struct Way {
  AttentionCase c;
  std::shared_ptr<AttentionGraph> graph; // that the plan was made of, if it was
  std::shared_ptr<AttentionPlan> plan;   // of a slice; none: the own kernel
  int64_t slices = 1;
  int candidate = 0;
  bool is_read = false, was_run = false; // the plan is from disk; and was run
  std::string note;
};
using Ways = std::vector<std::unique_ptr<Way>>;
Ways &ways = *new Ways, &past = *new Ways; // past: those of earlier choices, whose code graphs may hold. At exit the library may go first.
int64_t generation;
int shapes_tried;

void forget_ways() {
  for (auto &way : ways)
    if (graphs_live()) past.push_back(static_cast<std::unique_ptr<Way> &&>(way));
  if (!graphs_live()) past.clear();
  ways.clear(), shapes_tried = 0, generation = choices_generation();
}

// One slice. In a capture on the host it is noted, and its failure is the graph's.
mb_status run_slice(Calls *calls, const Way &way, const AttentionArrays &arrays) {
  MB_TRY(launched("cudnnBackendExecute"));
  launches++;
#ifndef __CUDACC__
  if (!is_done_now())
    return perform([graph = way.graph, plan = way.plan, arrays] {
      Calls later(&opened().library);
      cudnn::run(&later, opened().handle, *plan, arrays);
      return later.good() ? MB_OK : fail(MB_ERR_DEVICE, "attention: %s", later.problem.c_str());
    });
#endif
  cudnn::run(calls, opened().handle, *way.plan, arrays);
#ifdef __CUDACC__
  cudaError_t left = calls->good() ? cudaSuccess : cudaPeekAtLastError();
  Answer answer = left == cudaSuccess ? Answer{} : answer_of(left);
  if (answer.is_sticky) return report(answer, "cudnnBackendExecute", __FILE__, __LINE__);
#endif
  return MB_OK;
}

mb_status run(Calls *calls, const Way &way, const Job &job) {
  void *workspace = nullptr;
  if (way.plan->bytes) MB_TRY(scratch(&workspace, WORKSPACE_SLOT, way.plan->bytes));
  AttentionArrays arrays = job.arrays;
  arrays.workspace = (char *)workspace;
  for (int64_t slice = 0; slice < way.slices && calls->good(); slice++) {
    int64_t first = slice * (job.c.batch / way.slices);
    for (int role = 0; role < (job.c.backward ? HEADS : DOUT); role++)
      arrays.heads[role] = (bf16 *)job.arrays.heads[role] + first * job.c.stride[role][0];
    arrays.lse = (float *)job.arrays.lse + first * job.c.heads * job.c.time;
    MB_TRY(run_slice(calls, way, arrays));
  }
  return MB_OK;
}

// The least of a few times, in microseconds; negative if it does not run. *lost is a failure that no other way avoids.
template <class F> double time_of(mb_status *lost, const F &work) {
  double least = -1;
#ifdef __CUDACC__
  least = time_of_runs(RUNS, work);
#else
  bool ready = true;
  for (int i = 0; ready && i <= 1; i++) {
    auto begin = std::chrono::steady_clock::now();
    ready = work();
    least = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  }
  if (!ready) least = -1;
  count_wait();
#endif
  *lost = usable();
  return least;
}

AttentionCase slice_of(const AttentionCase &c, int64_t slices) {
  AttentionCase slice = c;
  slice.batch /= slices;
  if (slice.batch == 1)
    for (auto &stride : slice.stride) stride[0] = slice.time * stride[1];
  return slice;
}

Target device() {
  Target target;
  target.handle = opened().handle;
  return target;
}

// The graph of a slice, with the engines that take it; none with the reason.
std::shared_ptr<AttentionGraph> graph_of(std::string *why, const AttentionCase &c, int64_t slices) {
  Calls calls(&opened().library);
  std::shared_ptr<AttentionGraph> graph(new AttentionGraph(&calls, slice_of(c, slices)));
  graph->find(&calls, device());
  *why = calls.problem;
  return calls.good() ? graph : nullptr;
}

// Makes a plan, candidate i of the graph of a slice, the way to go; false with the reason.
bool take(Way *way, std::string *why, Calls *calls, AttentionPlan *plan, int i, int64_t slices) {
  if (plan->may_differ && (way->c.deterministic || !way->c.backward)) calls->fail("its results would not repeat");
  *why = calls->problem;
  if (!calls->good()) return false;
  way->slices = slices, way->candidate = i;
  way->plan = std::make_shared<AttentionPlan>(static_cast<AttentionPlan &&>(*plan));
  return true;
}

bool make(Way *way, std::string *why, const std::shared_ptr<AttentionGraph> &graph, int i, int64_t slices) {
  Calls calls(&opened().library);
  AttentionPlan plan;
  if (i < graph->count()) plan = graph->plan(&calls, device(), i);
  else calls.fail("it has no plan " + std::to_string(i));
  if (!take(way, why, &calls, &plan, i, slices)) return false;
  way->graph = graph;
  return true;
}

// From disk, unless `anew`, or made and kept there.
void read_or_make(Way *way, std::string *why, int i, int64_t slices, bool anew) {
  const Library &library = opened().library;
  Calls calls(&library);
  AttentionPlan plan;
  way->is_read = !anew && load_plan(&plan, library, device(), slice_of(way->c, slices), i) && take(way, why, &calls, &plan, i, slices);
  if (way->is_read) return;
  std::shared_ptr<AttentionGraph> graph = graph_of(why, way->c, slices);
  if (graph && make(way, why, graph, i, slices)) keep_plan(library, *way->plan, i);
}

void make_own(Way *way) { way->graph.reset(), way->plan.reset(), way->slices = 1; }

std::string milliseconds(double microseconds) {
  char text[32];
  snprintf(text, sizeof text, "%.3f ms", microseconds * 1e-3);
  return text;
}

void say(Way *way, const Choice &choice, const std::string &why) {
  const std::string library = opened().handle ? opened().library.name() : "cuDNN";
  bool own = !way->plan;
  way->note = own ? "own kernel" : library;
  if (!own && way->slices > 1) way->note += " in " + std::to_string(way->slices) + " slices";
  if (choice.microseconds > 0) way->note += ", " + milliseconds(choice.microseconds);
  double other = (double)choice.algorithm[OTHER_NANOSECONDS] * 1e-3;
  if (other > 0) way->note += own ? "; " + library + " " + milliseconds(other) : "; own kernel " + milliseconds(other);
  if (!why.empty()) way->note += ": " + why;
}

Choice choice_of(Who who, Reason reason) {
  Choice choice{};
  choice.algorithm[WHO] = who, choice.algorithm[REASON] = reason;
  if (who == LIBRARY) choice.algorithm[VERSION] = opened().library.version, choice.algorithm[SLICES] = 1;
  return choice;
}

// Goes by a choice that was made. What cannot be had any more becomes the own kernel, and the note says so.
void follow(Way *way, const Choice &choice) {
  static const char *const REASONS[] = {"", "not timed", "no cuDNN", "refused by cuDNN", "no room for cuDNN", "cuDNN failed", "many shapes"};
  uint64_t reason = choice.algorithm[REASON];
  std::string why = reason < sizeof REASONS / sizeof *REASONS ? REASONS[reason] : "";
  if (choice.algorithm[WHO] == LIBRARY) {
    std::string problem = opened().handle ? "" : opened().why;
    if (problem.empty() && opened().library.version != choice.algorithm[VERSION])
      problem = "it was chosen for version " + std::to_string(choice.algorithm[VERSION]);
    int64_t slices = (int64_t)choice.algorithm[SLICES];
    if (problem.empty() && (slices < 1 || way->c.batch % slices)) problem = "the choice does not fit";
    if (problem.empty()) read_or_make(way, &problem, (int)choice.algorithm[CANDIDATE], slices, false);
    if (!problem.empty()) why = "cuDNN was chosen, but " + problem;
  }
  Choice shown = choice;
  if (choice.algorithm[WHO] == LIBRARY && !way->plan) shown.microseconds = 0, shown.algorithm[OTHER_NANOSECONDS] = 0;
  say(way, shown, why);
}

// What is known while a shape's ways are compared. Times are in microseconds, negative where there is none.
struct Contest {
  const Job &job;
  bool timed;
  double best = -1;
  Way fastest;
  Choice choice{};
  Reason reason = REFUSED; // there is no fastest: why, and the first thing that was in the way
  std::string why;
};

// Candidate i of a graph takes part. A failure is one that no other way avoids.
mb_status compete(Contest *contest, const std::shared_ptr<AttentionGraph> &graph, int i, int64_t slices) {
  Way trial;
  trial.c = contest->job.c;
  std::string problem;
  Reason reason = REFUSED;
  void *workspace;
  double time = -1;
  if (make(&trial, &problem, graph, i, slices)) {
    if (trial.plan->bytes && scratch(&workspace, WORKSPACE_SLOT, trial.plan->bytes) != MB_OK) {
      reason = NO_ROOM, problem = std::to_string(trial.plan->bytes) + " bytes of work memory are not to be had";
    } else {
      Calls calls(&opened().library);
      mb_status lost = MB_OK;
      time = contest->timed ? time_of(&lost, [&] { return run(&calls, trial, contest->job) == MB_OK && calls.good(); }) : 0;
      MB_TRY(lost);
      reason = FAILED, problem = calls.problem;
    }
  }
  if (time < 0) {
    if (contest->why.empty()) contest->why = problem, contest->reason = reason;
    return usable();
  }
  if (contest->fastest.plan && time >= contest->best) return MB_OK;
  contest->best = time;
  contest->fastest = static_cast<Way &&>(trial);
  contest->choice = choice_of(LIBRARY, contest->timed ? BY_TIME : UNTIMED);
  contest->choice.algorithm[CANDIDATE] = (uint64_t)i, contest->choice.algorithm[SLICES] = (uint64_t)slices;
  return MB_OK;
}

// Leaves the way as the fastest one, with its choice.
mb_status compare(Way *way, const Job &job, Choice *chosen, std::string *why) {
  mb_status lost = MB_OK;
  Contest contest{job, may_time(), -1, {}, {}, REFUSED, ""};
  double own = contest.timed ? time_of(&lost, [&] { return job.own() == MB_OK; }) : -1;
  MB_TRY(lost);
  // Few slices for the most work at once; more, whose squares may stay in the L2 cache.
  int64_t few = slices_of(way->c, MOST_SQUARES), many = slices_of(way->c, MOST_SQUARES / 8);
  for (int64_t slices : {few, many}) {
    std::string problem;
    std::shared_ptr<AttentionGraph> graph = graph_of(&problem, way->c, slices);
    if (!graph && contest.why.empty()) contest.why = problem;
    for (int i = 0; graph && i < graph->count() && i < (slices == few ? PLANS : 1); i++) {
      if (!contest.timed && contest.fastest.plan) break;
      MB_TRY(compete(&contest, graph, i, slices));
    }
    if (many == few) break;
  }
  bool is_library = contest.fastest.plan && (own < 0 || contest.best < MARGIN * own);
  if (!contest.fastest.plan) *chosen = choice_of(OWN, contest.reason), *why = contest.why;
  else *chosen = is_library ? contest.choice : choice_of(OWN, BY_TIME);
  double taken = is_library ? contest.best : own, other = is_library ? own : contest.best;
  if (taken > 0) chosen->microseconds = taken;
  if (other > 0) chosen->algorithm[OTHER_NANOSECONDS] = (uint64_t)(other * 1e3);
  if (is_library && !contest.timed) *why = "not timed";
  if (!is_library) return MB_OK;
  *way = static_cast<Way &&>(contest.fastest);
  keep_plan(opened().library, *way->plan, way->candidate);
  return MB_OK;
}

mb_status choose(Way *way, const Job &job) {
  const std::string key = name_of(way->c);
  Choice choice{};
  if (find_choice(&choice, key, may_time())) return follow(way, choice), MB_OK;
  std::string why;
  Reason reason = BY_TIME;
  if (!opened().handle) reason = NO_LIBRARY, why = "no cuDNN, " + opened().why;
  else if (why = refuses(opened().library, way->c); !why.empty()) reason = REFUSED;
  else if (shapes_tried >= MOST_SHAPES) reason = MANY, why = "cuDNN was asked for " + std::to_string(MOST_SHAPES) + " shapes, which is enough";
  if (reason != BY_TIME) {
    choice = choice_of(OWN, reason);
  } else {
    shapes_tried++;
    MB_TRY(compare(way, job, &choice, &why));
  }
  // What depends on more than the machine is no news for the next process.
  if (choice.algorithm[REASON] == BY_TIME && choice.microseconds > 0) keep_choice(key, choice);
  else use_choice(key, choice);
  say(way, choice, why);
  return MB_OK;
}

// Of a plan from disk, the first run. It is waited for, so that a failure is known to be the plan's: the file is then of no use,
// and unless the device is lost the plan is made.
mb_status run_first(Calls *calls, Way *way, const Job &job) {
  mb_status status = run(calls, *way, job);
#ifdef __CUDACC__
  if (status == MB_OK && calls->good()) {
    cudaError_t error = cudaStreamSynchronize(stream());
    count_wait();
    Answer answer = error == cudaSuccess ? Answer{} : answer_of(error);
    if (answer.is_sticky) status = report(answer, "cudnnBackendExecute", __FILE__, __LINE__);
    else if (error != cudaSuccess) calls->fail(answer.name);
  }
#endif
  way->was_run = true;
  if (calls->good() && usable() == MB_OK) return status;
  drop_plan(opened().library, way->plan->c, way->candidate);
  if (usable() != MB_OK) return status;
  std::string why;
  int64_t slices = way->slices;
  make_own(way);
  read_or_make(way, &why, way->candidate, slices, true);
  calls->problem = why;
  return way->plan ? run(calls, *way, job) : MB_OK;
}

mb_status attend(const Job &job) {
  if (!job.fits || !is_large(job.c)) return job.own();
  MB_TRY(open_products());
  if (generation != choices_generation()) forget_ways();
  Way *way = nullptr;
  for (auto &known : ways)
    if (memcmp(&known->c, &job.c, sizeof job.c) == 0) way = known.get();
  if (!way) {
    if (!is_done_now()) return job.own(); // nothing is built or timed
    std::unique_ptr<Way> made(new Way);
    made->c = job.c;
    MB_TRY(choose(made.get(), job));
    ways.push_back(static_cast<std::unique_ptr<Way> &&>(made));
    way = ways.back().get();
  }
  if (!way->plan) return job.own();
  Calls calls(&opened().library);
  mb_status status = way->is_read && !way->was_run ? run_first(&calls, way, job) : run(&calls, *way, job);
  if (status == MB_OK && calls.good()) return MB_OK;
  if (status == MB_ERR_DEVICE && usable() != MB_OK) return status;
  if (graphs_live()) past.push_back(std::unique_ptr<Way>(new Way(*way)));
  make_own(way);
  way->note = "own kernel: cuDNN was chosen, but " + (calls.good() ? std::string("there is no room for its work memory") : calls.problem);
  return job.own();
}

} // namespace

mb_status attention_bf16(const mbi_attention *s, const mbi_heads *out, float *lse, const mbi_heads *q, const mbi_heads *k, const mbi_heads *v) {
  // The library's forward is the one that keeps lse: where nobody wants it, it goes to work memory.
  float *kept = lse;
  if (!lse && is_large(job_of(s, lse).c) && opened().handle && scratch_of(&kept, LSE_SLOT, s->batch * s->heads * s->time) != MB_OK) kept = nullptr;
  Job job = job_of(s, kept);
  give(&job, Q, *q), give(&job, K, *k), give(&job, V, *v), give(&job, OUT, *out);
  job.own = [=] { return own_attention_bf16(s, out, lse, q, k, v); };
  return attend(job);
}

mb_status attention_backward_bf16(const mbi_attention *s, const mbi_attention_gradients *g, const float *lse, const mbi_heads *q,
                                  const mbi_heads *k, const mbi_heads *v) {
  Job job = job_of(s, lse);
  job.c.backward = 1, job.c.deterministic = bits_repeat;
  give(&job, Q, *q), give(&job, K, *k), give(&job, V, *v), give(&job, OUT, g->out), give(&job, DOUT, g->dout);
  give(&job, DQ, g->dq), give(&job, DK, g->dk), give(&job, DV, g->dv);
  job.own = [=] { return own_attention_backward_bf16(s, g, lse, q, k, v); };
  return attend(job);
}

void keep_bits(int wanted) { bits_repeat = wanted != 0; }

mb_status attention_notes(const char **text) {
  static std::string all;
  all = opened().handle ? opened().library.name() + "\n" : "no cuDNN: " + opened().why + "\n";
  for (const auto &way : ways) {
    const AttentionCase &c = way->c;
    all += "attention (" + std::to_string(c.batch) + ", " + std::to_string(c.time) + ", " + std::to_string(c.heads) + ", " +
           std::to_string(c.width) + ") " + (c.backward ? c.deterministic ? "backward" : "backward in any order" : "forward") + ": " + way->note +
           (way->plan && way->is_read ? "; its plan is from disk\n" : "\n");
  }
  all += epilogue_notes();
  *text = all.c_str();
  return MB_OK;
}

// The library that a run's attention took must be this one.
static bool fits(std::string *why, const std::string &key, const Choice &choice) {
  if (key.compare(0, 9, "attention") != 0 || choice.algorithm[WHO] != LIBRARY) return true;
  const Opened &here = opened();
  if (here.handle && here.library.version == choice.algorithm[VERSION]) return true;
  Library then;
  then.version = choice.algorithm[VERSION];
  *why = "attention took " + then.name() + ", here is " + (here.handle ? here.library.name() : "none (" + here.why + ")");
  return false;
}

mb_status set_all_choices(const char *text) {
  MB_TRY(open_products());
  return set_choices(text, fits);
}

} // namespace mbk
