//! The firewall table of one instance, over a netfilter netlink socket.
//!
//! The table has a fixed number of rules; what changes with containers are elements of its sets and maps, so a packet's way
//! costs the same with one published port and with a thousand. Every element carries its owner. The kernel keeps two
//! owners from having the same element, so it is the one that notices when a port is taken.
//!
//! The connection should live as long as the process: closing it after something was removed waits for every processor.

mod element;
mod expression;
mod layout;

pub use element::{Element, KeyPart};
pub use layout::Set;

use cringle_kernel::netlink::{Message, NetlinkError, Place, Protocol, Socket, attributes};
use rustix::io::Errno;
use std::time::{Duration, Instant};

use crate::pause::{FIRST_PAUSE, LONGEST_PAUSE, pause};
use layout::{GET_GENERATION, GET_TABLE};

/// How long a removal is tried again when the table changed under it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why something about the firewall could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// No connection to the kernel.
    #[error("failed to open a netfilter socket")]
    Open(#[source] NetlinkError),
    /// The table could not be made.
    #[error("failed to create firewall table {table:?}")]
    CreateTable {
        /// The table.
        table: String,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// An element could not be added.
    #[error("failed to add {element} to firewall table {table:?}")]
    Add {
        /// The table.
        table: String,
        /// The element.
        element: String,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// An element is there already.
    #[error("failed to add {} to the firewall: {}", element.describe(), match owner {
        Some(owner) => format!("it belongs to {owner}"),
        None => "it is there already".into(),
    })]
    Taken {
        /// The element.
        element: Box<Element>,
        /// Who has it, if that could still be seen.
        owner: Option<String>,
    },
    /// Elements could not be removed.
    #[error("failed to remove elements from firewall table {table:?}")]
    Remove {
        /// The table.
        table: String,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// A set could not be read.
    #[error("failed to read set {set:?} of firewall table {table:?}")]
    Read {
        /// The table.
        table: String,
        /// The set.
        set: &'static str,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// An owner whose name does not fit into an element.
    #[error("failed to name owner {0:?} in the firewall: the name is too long")]
    LongOwner(String),
}

/// The firewall table of one instance, in the network namespace that the connection was opened in.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    table: String,
}

impl Nft {
    /// Opens a connection in the calling thread's network namespace. The table is made when it is first needed.
    ///
    /// # Errors
    /// If the kernel has no such subsystem.
    pub fn open(instance: &str) -> Result<Self, NftError> {
        let socket = Socket::open(Protocol::Netfilter).map_err(NftError::Open)?;
        Ok(Self { socket, table: format!("cringle-{instance}") })
    }

    /// The connection, for what concerns connections rather than rules.
    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Makes the table with its chains and rules if it isn't there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn ensure_table(&mut self) -> Result<(), NftError> {
        let failed = |table: &str| {
            let table = table.to_owned();
            move |source| NftError::CreateTable { table, source }
        };
        match self.socket.ask(&layout::table_message(GET_TABLE, 0, &self.table)) {
            Ok(_) => return Ok(()),
            Err(error) if has(&error, Errno::NOENT) => {}
            Err(source) => return Err(failed(&self.table)(source)),
        }
        match self.transact(None, &layout::create(&self.table)) {
            // Another process was faster; the transaction is one piece, so its table is complete.
            Err(error) if !has(&error, Errno::EXIST) => Err(failed(&self.table)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Adds all of the elements or none, making the table if it isn't there.
    ///
    /// # Errors
    /// `Taken` if someone has one of them already, or the kernel's refusal.
    pub fn add(&mut self, elements: &[Element]) -> Result<(), NftError> {
        if elements.is_empty() {
            return Ok(());
        }
        if let Some(element) = elements.iter().find(|element| !element.fits()) {
            return Err(NftError::LongOwner(element.owner.clone()));
        }
        let changes: Vec<Message> =
            elements.iter().map(|element| element.add(&self.table)).collect();
        let mut outcome = self.transact(None, &changes);
        if outcome.as_ref().is_err_and(|error| has(error, Errno::NOENT)) {
            self.ensure_table()?;
            outcome = self.transact(None, &changes);
        }
        let Err(source) = outcome else { return Ok(()) };
        let refused = match source.place() {
            Some(Place::Message(index)) => elements.get(index),
            Some(Place::Batch) | None => None,
        };
        match refused {
            Some(element) if has(&source, Errno::EXIST) => {
                let owner = self.owner_of(element)?;
                Err(NftError::Taken { element: Box::new(element.clone()), owner })
            }
            refused => Err(NftError::Add {
                table: self.table.clone(),
                element: refused.or(elements.first()).map(Element::describe).unwrap_or_default(),
                source,
            }),
        }
    }

    fn owner_of(&mut self, element: &Element) -> Result<Option<String>, NftError> {
        let found = self.elements(element.set)?;
        Ok(found.into_iter().find(|found| found.key == element.key).map(|found| found.owner))
    }

    /// The elements of a set; none if there is no table.
    ///
    /// # Errors
    /// If the kernel doesn't answer.
    pub fn elements(&mut self, set: Set) -> Result<Vec<Element>, NftError> {
        match self.socket.dump(&element::all(&self.table, set)) {
            Ok(answers) => {
                Ok(answers.iter().flat_map(|answer| element::parse(set, &answer.payload)).collect())
            }
            Err(error) if has(&error, Errno::NOENT) => Ok(Vec::new()),
            Err(source) => {
                Err(NftError::Read { table: self.table.clone(), set: set.name(), source })
            }
        }
    }

    /// Removes every element of those sets that `is_wanted` picks, and says which they were. What another process
    /// changes meanwhile is noticed, so an element that changes hands is left to its new owner.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove_where(
        &mut self,
        sets: &[Set],
        is_wanted: impl Fn(&Element) -> bool,
    ) -> Result<Vec<Element>, NftError> {
        let deadline = Instant::now() + PATIENCE;
        // Many pods that stop at once, each in a process of its own, must not all come back at the same moments.
        let spread = Duration::from_micros(u64::from(std::process::id() % 500));
        let mut next = FIRST_PAUSE + spread;
        loop {
            let generation = self.generation()?;
            let mut wanted = Vec::new();
            for set in sets {
                wanted.extend(self.elements(*set)?.into_iter().filter(&is_wanted));
            }
            if wanted.is_empty() {
                return Ok(wanted);
            }
            let changes: Vec<Message> =
                wanted.iter().map(|element| element.remove(&self.table)).collect();
            match self.transact(Some(generation), &changes) {
                Ok(()) => return Ok(wanted),
                Err(error)
                    if Instant::now() < deadline
                        && (has(&error, Errno::RESTART) || has(&error, Errno::NOENT)) =>
                {
                    if pause(next).is_err() {
                        return Err(NftError::Remove { table: self.table.clone(), source: error });
                    }
                    next = (next * 2).min(LONGEST_PAUSE + spread);
                }
                Err(source) => return Err(NftError::Remove { table: self.table.clone(), source }),
            }
        }
    }

    /// Removes the table with all that is in it; success if it isn't there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove_table(&mut self) -> Result<(), NftError> {
        match self.transact(None, &[layout::table_message(layout::DELETE_TABLE, 0, &self.table)]) {
            Err(error) if !has(&error, Errno::NOENT) => {
                Err(NftError::Remove { table: self.table.clone(), source: error })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The number of the ruleset's present state.
    fn generation(&mut self) -> Result<u32, NftError> {
        let read = |source| NftError::Read { table: self.table.clone(), set: "generation", source };
        let answer = self.socket.ask(&layout::message(GET_GENERATION, 0)).map_err(read)?;
        let found = attributes(answer.payload.get(layout::HEADER_LENGTH..).unwrap_or_default());
        Ok(found
            .of(layout::GENERATION_ID)
            .and_then(|attribute| attribute.network_number())
            .unwrap_or_default())
    }

    fn transact(
        &mut self,
        generation: Option<u32>,
        changes: &[Message],
    ) -> Result<(), NetlinkError> {
        self.socket.transact(&layout::begin(generation), changes, &layout::end())
    }
}

fn has(error: &NetlinkError, errno: Errno) -> bool {
    error.errno() == Some(errno.raw_os_error())
}

#[cfg(test)]
mod tests;
