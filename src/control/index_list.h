// Doubly linked lists of array elements, linked by index: no allocation, removal in O(1).
#ifndef TOE_CONTROL_INDEX_LIST_H_
#define TOE_CONTROL_INDEX_LIST_H_

#include <cstdint>

#include "base/check.h"

namespace toe::control {

inline constexpr std::uint32_t kNil = 0xffffffffu;  ///< "no element"

/// Lies in the element. An element is in at most one list per Link.
struct Link {
  std::uint32_t next = kNil;
  std::uint32_t prev = kNil;
};

struct List {
  std::uint32_t head = kNil;
  std::uint32_t tail = kNil;
  std::uint32_t count = 0;

  bool empty() const { return head == kNil; }
};

/// `link` maps an index to the Link& of that element.
template <typename LinkOf>
void push_back(List& list, std::uint32_t i, LinkOf link) {
  link(i) = {kNil, list.tail};
  if (list.tail != kNil) {
    link(list.tail).next = i;
  } else {
    list.head = i;
  }
  list.tail = i;
  ++list.count;
}

/// REQUIRES: element i is in `list`.
template <typename LinkOf>
void unlink(List& list, std::uint32_t i, LinkOf link) {
  TOE_DCHECK(list.count > 0);
  const Link l = link(i);
  (l.prev != kNil ? link(l.prev).next : list.head) = l.next;
  (l.next != kNil ? link(l.next).prev : list.tail) = l.prev;
  link(i) = {};
  --list.count;
}

}  // namespace toe::control

#endif  // TOE_CONTROL_INDEX_LIST_H_
