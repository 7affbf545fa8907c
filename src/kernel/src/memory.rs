//! Memory that a process has done with, given back to the kernel: for a process that lives long and does little after a busy
//! start, which would keep the pages of its busiest moment for ever.

use std::fs;
use std::ops::Range;

use crate::error::{Result, SystemError};

/// Blocks of which each is a mapping of its own.
const LARGE: libc::c_int = 256 << 10;
/// Heaps of a frugal process: two threads that do the work seldom wait for each other, and others come and go.
const ARENAS: libc::c_int = 2;

/// Gives back the heap's free pages (malloc_trim(3)) and, on the first thread, the pages that its stack has used below the
/// caller's frame.
///
/// # Errors
/// `/proc` is not there, or the kernel refused; nothing is lost then but the pages.
pub fn give_back() -> Result<()> {
    // Looked up first: what it takes of the heap is given back with the rest.
    let stack = mapping(|line| line.ends_with(" [stack]"));
    // SAFETY: it takes no pointer, and glibc locks its own arenas.
    let _freed = unsafe { libc::malloc_trim(0) };
    match stack? {
        // SAFETY: the kernel says that it is a stack.
        Some(stack) => unsafe { give_back_stack(&stack) },
        None => Ok(()),
    }
}

/// Sets malloc(3) up for a process whose memory shall depend on neither the largest block that it ever had nor the number of
/// processors (mallopt(3)). Called once, before there is a second thread.
///
/// - Every block of 256 KiB and more goes back to the kernel as soon as it is let go of. If malloc is not asked to, it takes
///   the largest block that it has seen for a usual one and keeps up to twice as much: a burst of large answers stays.
/// - There are at most [`ARENAS`] heaps. Otherwise each thread gets its own until there are eight for each processor, and
///   every one keeps its own free pages between what stays.
///
/// # Errors
/// A value is none that malloc takes.
pub fn be_frugal() -> Result<()> {
    set(libc::M_MMAP_THRESHOLD, LARGE, "size of large blocks")?;
    set(libc::M_ARENA_MAX, ARENAS, "number of heaps")
}

fn set(parameter: libc::c_int, value: libc::c_int, name: &'static str) -> Result<()> {
    // SAFETY: it takes no pointer, and glibc locks what it changes.
    let taken = unsafe { libc::mallopt(parameter, value) };
    if taken == 1 { Ok(()) } else { Err(SystemError::last("mallopt", name)) }
}

/// Bytes that the heaps have given out, large blocks of their own mapping among them (mallinfo2(3), glibc 2.33). What each
/// thread keeps for its next small blocks counts as given out. All heaps are locked and gone through, in turn: no call for
/// a hot path.
#[must_use]
pub fn heap_in_use() -> usize {
    // SAFETY: it takes no pointer, and glibc locks its own arenas.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks.saturating_add(info.hblkhd)
}

/// Gives back what the stack has below this call's frame; nothing, if it is another thread's.
///
/// The deepest call ever made decides how many pages a stack has; what lies below the current frame means nothing any more.
///
/// # Safety
/// The addresses are a stack, and nothing else.
unsafe fn give_back_stack(stack: &Range<usize>) -> Result<()> {
    let here = 0_u8;
    let here = (&raw const here).addr();
    if !stack.contains(&here) {
        return Ok(());
    }
    let page = page_size();
    // A page below the frame is left alone, for the calls made on the way, and what is rounded off.
    let end = here.saturating_sub(page) / page * page;
    let length = end.saturating_sub(stack.start);
    let start = std::ptr::without_provenance_mut(stack.start);
    // SAFETY: all of the range is of this thread's stack, a page and more below the frame of this function: no value lives
    // there, and the call itself needs less than a page. Read again, the pages are zeros. An empty range is allowed.
    let answer = unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    if answer < 0 { Err(SystemError::last("madvise", "stack")) } else { Ok(()) }
}

/// Bytes of a page; the largest that any kernel has, if this one does not say.
pub(crate) fn page_size() -> usize {
    // SAFETY: it takes no pointer.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok().filter(|size| *size > 0).unwrap_or(64 << 10)
}

/// The mapping of this process whose line in `/proc/self/maps` is wanted. Of stacks only the first thread's has a name; the
/// others are mappings like any other, whose neighbours may be joined to them.
fn mapping(wanted: impl Fn(&str) -> bool) -> Result<Option<Range<usize>>> {
    const MAPS: &str = "/proc/self/maps";
    let text = fs::read_to_string(MAPS).map_err(|error| SystemError::new("read", MAPS, error))?;
    Ok(text.lines().rev().find(|line| wanted(line)).and_then(range))
}

/// The addresses that a line of `/proc/self/maps` begins with.
fn range(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{Birth, child};
    use crate::process::{Exit, wait};
    use std::hint::black_box;

    /// KiB in memory of the mapping that begins there.
    fn resident(mapping: &Range<usize>) -> usize {
        let text = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = text.lines().skip_while(|line| range(line).as_ref() != Some(mapping));
        let line = lines.find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Bytes in memory that no file has.
    fn own() -> usize {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn free_blocks_between_others_go_back_to_the_kernel() {
        const BLOCK: usize = 32 << 10;
        let mut blocks: Vec<Vec<u8>> = (0..1024).map(|_| black_box(vec![1; BLOCK])).collect();
        let full = own();
        // Every eighth stays, so that none of the free memory is at the end of the heap.
        let mut number = 0;
        blocks.retain(|_| {
            number += 1;
            number % 8 == 0
        });
        give_back().unwrap();
        let (left, less) = (own(), 1024 * 3 / 4 * BLOCK);
        assert!(left + less < full, "{full} bytes became {left}");
        assert!(blocks.iter().flatten().all(|&byte| byte == 1));
    }

    #[test]
    fn what_is_given_out_is_counted_and_what_is_free_is_not() {
        // In a child, where no other test has any.
        let born = child(&Birth::default(), || {
            let as_it_should = [(1_usize, 8_usize << 20), (1024, 8 << 10)].map(|(count, block)| {
                let before = heap_in_use();
                let blocks: Vec<Vec<u8>> = (0..count).map(|_| black_box(vec![1; block])).collect();
                let full = heap_in_use();
                drop(blocks);
                full >= before + count * block && heap_in_use() <= before + (64 << 10)
            });
            i32::from(as_it_should.contains(&false))
        })
        .unwrap();
        assert_eq!(wait(&born.pidfd).unwrap(), Exit::Code(0));
    }

    #[test]
    fn a_frugal_process_has_no_heap_for_each_thread() {
        // In a child, as it cannot be taken back. A heap of its own is a mapping at a multiple of 64 MiB (malloc/arena.c).
        let born = child(&Birth::default(), || {
            if be_frugal().is_err() {
                return 1;
            }
            let heaps = || {
                let text = fs::read_to_string("/proc/self/maps").unwrap_or_default();
                let starts = text.lines().filter_map(range).map(|range| range.start);
                starts.filter(|start| *start != 0 && start % (64 << 20) == 0).count()
            };
            let before = heaps();
            let barrier = std::sync::Barrier::new(17);
            let most = std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| {
                        let kept = black_box(vec![1_u8; 4096]);
                        barrier.wait();
                        barrier.wait();
                        drop(kept);
                    });
                }
                barrier.wait();
                let most = heaps();
                barrier.wait();
                most
            });
            i32::from(most > before + 1)
        })
        .unwrap();
        assert_eq!(wait(&born.pidfd).unwrap(), Exit::Code(0));
    }

    #[inline(never)]
    fn dig(depth: usize) -> usize {
        let block = black_box([depth; 512]);
        if depth == 0 { 0 } else { dig(depth - 1) + block.iter().filter(|&&at| at == 0).count() }
    }

    #[test]
    fn a_stack_that_was_deep_once_is_given_back_and_can_be_used_again() {
        // In a child, which has one thread: its stack is a copy of this thread's.
        let born = child(&Birth::default(), || {
            let kept = black_box([7_u8; 512]);
            let here = (&raw const kept).addr();
            let deep = dig(64);
            let stack = mapping(|line| range(line).is_some_and(|range| range.contains(&here)));
            let Ok(Some(stack)) = stack else { return 1 };
            let before = resident(&stack);
            // SAFETY: it has a local variable in it.
            let given = unsafe { give_back_stack(&stack) }.is_ok();
            let less = resident(&stack) + 128 <= before;
            let intact = kept.iter().all(|&byte| byte == 7) && dig(64) == deep;
            i32::from(!(given && less && intact))
        })
        .unwrap();
        assert_eq!(wait(&born.pidfd).unwrap(), Exit::Code(0));
    }

    #[test]
    fn the_first_threads_stack_is_not_given_back_by_another() {
        let first = mapping(|line| line.ends_with(" [stack]")).unwrap().unwrap();
        let before = resident(&first);
        std::thread::spawn(|| give_back().unwrap()).join().unwrap();
        assert_eq!(resident(&first), before);
    }

    #[test]
    fn a_line_of_the_memory_map_says_where_a_mapping_is() {
        assert_eq!(range("7ffc0-7ffe1 rw-p 00000000 00:00 0    [stack]"), Some(0x7ffc0..0x7ffe1));
        assert_eq!(range("nothing"), None);
    }
}
