// SPDX-License-Identifier: MIT
//
// staging.cu: copies between the host and the device, through a ring of pinned pieces. A copy in writes the caller's bytes
// into the next piece and queues the rest: it waits only when the ring is full of copies that the device has not made yet,
// and the caller's buffer may be used again when it returns. A copy out keeps several pieces on their way while it empties
// the oldest. Large tensors pass through in pieces, both sides working at once.
#include "backend/cuda/capture.h"
#include "backend/cuda/memory.h"

#include <cstring>

namespace mbk {
namespace {

constexpr size_t PIECE = 1 << 20;
constexpr int64_t PIECES = 4;

struct Piece {
  char *memory;
  Mark mark;
  bool is_queued; // a copy was queued that nobody has waited for yet
};
Piece ring[PIECES];
int64_t turn; // pieces used so far: the next one is ring[turn % PIECES]

mb_status prepare() {
  if (ring[0].memory) return MB_OK;
  void *memory;
  for (Piece &piece : ring) MB_TRY(make_mark(&piece.mark));
  MB_TRY(pinned(&memory, PIECE * PIECES));
  for (int64_t i = 0; i < PIECES; i++) ring[i].memory = (char *)memory + (size_t)i * PIECE;
  return MB_OK;
}

mb_status settle(Piece *piece) {
  if (!piece->is_queued) return MB_OK;
  MB_TRY(wait(piece->mark));
  piece->is_queued = false;
  return MB_OK;
}

mb_status queue_piece(Piece *piece, void *to, const void *from, size_t bytes, Way way) {
  MB_TRY(queue_copy(to, from, bytes, way));
  MB_TRY(mark(piece->mark));
  piece->is_queued = true;
  turn++;
  return MB_OK;
}

size_t piece_of(size_t bytes, size_t at) { return bytes - at < PIECE ? bytes - at : PIECE; }

} // namespace

mb_status to_device(void *device, const void *host, size_t bytes) {
  MB_TRY(refuse_capture("a copy from the host, whose bytes a replay would not see change,"));
  MB_TRY(prepare());
  for (size_t at = 0; at < bytes; at += PIECE) {
    Piece *piece = &ring[turn % PIECES];
    size_t part = piece_of(bytes, at);
    MB_TRY(settle(piece));
    memcpy(piece->memory, (const char *)host + at, part);
    MB_TRY(queue_piece(piece, (char *)device + at, piece->memory, part, Way::IN));
  }
  return MB_OK;
}

mb_status to_host(void *host, const void *device, size_t bytes) {
  MB_TRY(refuse_capture("reading a value, for which the host waits,"));
  MB_TRY(prepare());
  count_wait();
  int64_t first = turn;
  size_t asked = 0;
  for (size_t at = 0; at < bytes; at += PIECE, first++) {
    for (; asked < bytes && turn < first + PIECES; asked += PIECE) {
      Piece *next = &ring[turn % PIECES];
      MB_TRY(settle(next));
      MB_TRY(queue_piece(next, next->memory, (const char *)device + asked, piece_of(bytes, asked), Way::OUT));
    }
    Piece *oldest = &ring[first % PIECES];
    MB_TRY(settle(oldest));
    memcpy((char *)host + at, oldest->memory, piece_of(bytes, at));
  }
  return MB_OK;
}

} // namespace mbk
