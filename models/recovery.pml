/* The migration protocol without an adversary, but with everything that breaks (docs/protocol.md, failure analysis).
 *
 * Checked: S7, nothing is lost by accident. Hosts are honest: they retry, replace what died and cancel what fails, in
 * any order and at any moment. Up to CRASHES deaths happen, of enclaves and of agents, anywhere. Loss, delay and a
 * daemon's crash are delays here: a message that is lost is made again by whoever owns it, or the model says that it
 * cannot be. The record stream survives: the source's host keeps it until an instance runs.
 *
 * Every step changes something for good, so that every execution ends; check.sh proves that by finding no cycle. Where
 * nothing more can happen, one instance must run, unless one of the stated exceptions took place:
 *  - own_death: the one instance that could run died itself (as any enclave may), or the source did before its ticket
 *    was delivered;
 *  - arbiter_death: the agent with the ticket died before the grant had reached an agent that could deliver it.
 *
 * VM: the source commits when its checkpoint is made; otherwise on the target's Ready.
 * Mutations (-DMUT_…) take away one defence each.
 */
#ifndef CRASHES
#define CRASHES 3
#endif
#ifndef DRAWS
#define DRAWS 3 /* attempts */
#endif
#define NA 8    /* agent instances: 0 … 3 one after the other on the source's machine, 4 … 7 on the target's */
#define NONE 9

/* The source's gate, and a target's life. */
#define UNBORN 0
#define OPEN 1
#define QUIESCING 2
#define DESTROYED 3
#define KEYED 4
#define RESTORED 5
#define DEAD 6

#define NOTHING 0
#define PREPARED 1
#define TICKETED 2
#define GRANTED 3

byte source = OPEN;
bit source_gone; /* after its commit: harmless once the ticket is delivered */
byte drawn;
bit under_way;
bit ready;       /* the source has the target's Ready */
bit committed;
bit ticket_lost;

byte arbiter = NONE;
byte book;
byte grantee;
bit granted_once; /* some answer to a grant request has left the arbiter */

/* 0: not started, 1: alive, 2: dead. */
byte agent[NA];
bit offered[NA]; /* knows the attempt */
bit key[NA];     /* and has its key */
bit carries[NA]; /* the grant has reached it */

/* Targets: 1 on the source's machine, 2 on the target's. Index 0 is not used. */
byte target[3];
byte session[3] = NONE;

byte crashes;
bit own_death;
bit arbiter_death;

#define ALIVE(a) (agent[a] == 1)
#define AS_ALIVE (arbiter != NONE && agent[arbiter] == 1)
#define RUNS ((source == OPEN) + (target[1] == OPEN) + (target[2] == OPEN))
#define DELIVERABLE(t) (target[t] == RESTORED && book == GRANTED && grantee == (t) && ALIVE(session[t]) && carries[session[t]])

#define FORGET(a) offered[a] = 0; key[a] = 0;
inline reset_attempt() {
  under_way = 0;
  ready = 0;
  book = NOTHING;
  arbiter = NONE;
  target[1] = UNBORN;
  target[2] = UNBORN;
  session[1] = NONE;
  session[2] = NONE;
  FORGET(0) FORGET(1) FORGET(2) FORGET(3) FORGET(4) FORGET(5) FORGET(6) FORGET(7)
}

#define START(a, before) :: d_step { agent[a] == 0 && agent[before] == 2 -> agent[a] = 1 }

#define DRAW(a)                                                                                     \
  :: d_step {                                                                                       \
    source == OPEN && !under_way && drawn < DRAWS && ALIVE(a) ->                                    \
    drawn++;                                                                                        \
    under_way = 1;                                                                                  \
    arbiter = a;                                                                                    \
    book = PREPARED;                                                                                \
    offered[a] = 1;                                                                                 \
    key[a] = 1                                                                                      \
  }

/* Up to the grant with the key; after it without, so that a new agent can relay what was granted. */
#ifdef MUT_NO_SECOND_OFFER
#define MAY_OFFER (book == PREPARED && !committed)
#else
#define MAY_OFFER (book != NOTHING)
#endif
#define OFFER(b) \
  :: d_step { AS_ALIVE && ALIVE(b) && MAY_OFFER && !offered[b] -> offered[b] = 1; key[b] = (book != GRANTED) }

#define BIRTH(t, a)                                                                                 \
  :: d_step {                                                                                       \
    target[t] == UNBORN && (source == QUIESCING || committed) && ALIVE(a) && key[a] && book != GRANTED -> \
    target[t] = KEYED;                                                                              \
    session[t] = a                                                                                  \
  }
#define RESTORE(t) :: d_step { target[t] == KEYED -> target[t] = RESTORED }

#define READY                                                                                       \
  :: d_step {                                                                                       \
    target[2] == RESTORED && ALIVE(session[2]) && AS_ALIVE && source == QUIESCING && !ready ->      \
    ready = 1                                                                                       \
  }

#ifdef VM
#define MAY_COMMIT 1
#else
#define MAY_COMMIT ready
#endif
#define COMMIT :: d_step { source == QUIESCING && MAY_COMMIT -> source = DESTROYED; committed = 1; agent_died() }

/* The host gives up, for a reason or for none, while the source can still go on. */
#define CANCEL                                                                                      \
  :: d_step { (source == QUIESCING || source == OPEN) && under_way -> source = OPEN; reset_attempt() }

#define TICKET                                                                                      \
  :: d_step {                                                                                       \
    source == DESTROYED && !source_gone && AS_ALIVE && book == PREPARED && !ticket_lost ->          \
    book = TICKETED                                                                                 \
  }
#ifdef MUT_TICKET_SENT_ONCE
#define LOSE_TICKET :: d_step { source == DESTROYED && book == PREPARED && !ticket_lost -> ticket_lost = 1 }
#else
#define LOSE_TICKET
#endif

/* Another instance of the agent on this machine takes over a living target, by a new session with the same key. */
#ifdef MUT_NO_SECOND_SESSION
/* What a host can do instead: replace the target, while none is granted. */
#define REHELLO(t, b)                                                                               \
  :: d_step {                                                                                       \
    (target[t] == KEYED || target[t] == RESTORED) && agent[session[t]] == 2 && book != GRANTED ->   \
    target[t] = UNBORN;                                                                             \
    session[t] = NONE                                                                               \
  }
#else
#define REHELLO(t, b)                                                                               \
  :: d_step {                                                                                       \
    (target[t] == KEYED || target[t] == RESTORED) && agent[session[t]] == 2 && ALIVE(b) && offered[b] -> \
    session[t] = b                                                                                  \
  }
#endif

#define GRANT(t)                                                                                    \
  :: d_step {                                                                                       \
    target[t] == RESTORED && ALIVE(session[t]) && AS_ALIVE && book == TICKETED ->                   \
    book = GRANTED;                                                                                 \
    grantee = t                                                                                     \
  }
/* The answer, or a repeat of it; it may be lost, so it need not happen at once. */
#ifdef MUT_GRANT_SENT_ONCE
#define MAY_ANSWER !granted_once
#else
#define MAY_ANSWER 1
#endif
#define ANSWER(t)                                                                                   \
  :: d_step {                                                                                       \
    target[t] == RESTORED && book == GRANTED && grantee == t && AS_ALIVE && ALIVE(session[t]) &&    \
    !carries[session[t]] && MAY_ANSWER ->                                                           \
    carries[session[t]] = 1;                                                                        \
    granted_once = 1                                                                                \
  }
#define BEGIN(t) :: d_step { DELIVERABLE(t) -> target[t] = OPEN; assert(RUNS == 1) }

/* Deaths. */
#define CRASH_SOURCE                                                                                \
  :: d_step {                                                                                       \
    crashes < CRASHES && (source == OPEN || source == QUIESCING) ->                                 \
    crashes++;                                                                                      \
    source = DEAD;                                                                                  \
    own_death = 1                                                                                   \
  }                                                                                                 \
  :: d_step {                                                                                       \
    crashes < CRASHES && source == DESTROYED && !source_gone ->                                     \
    crashes++;                                                                                      \
    source_gone = 1;                                                                                \
    own_death = own_death || book == PREPARED                                                       \
  }
#define CRASH_TARGET(t)                                                                             \
  :: d_step {                                                                                       \
    crashes < CRASHES && (target[t] == KEYED || target[t] == RESTORED) ->                           \
    crashes++;                                                                                      \
    own_death = own_death || (book == GRANTED && grantee == t);                                     \
    target[t] = UNBORN;                                                                             \
    session[t] = NONE                                                                               \
  }
/* The exception: no way from the ticket to a running instance is left. */
inline agent_died() {
  if
  :: committed && RUNS == 0 && !AS_ALIVE && !DELIVERABLE(1) && !DELIVERABLE(2) -> arbiter_death = 1
  :: else
  fi
}
#define CRASH_AGENT(a) \
  :: d_step { crashes < CRASHES && ALIVE(a) -> crashes++; agent[a] = 2; agent_died() }

active proctype world() {
  d_step { agent[0] = 1; agent[4] = 1 }
end:
  do
  START(1, 0) START(2, 1) START(3, 2) START(5, 4) START(6, 5) START(7, 6)
  DRAW(0) DRAW(1) DRAW(2) DRAW(3)
  OFFER(4) OFFER(5) OFFER(6) OFFER(7)
  :: d_step { source == OPEN && under_way -> source = QUIESCING }
  BIRTH(1, 0) BIRTH(1, 1) BIRTH(1, 2) BIRTH(1, 3) BIRTH(2, 4) BIRTH(2, 5) BIRTH(2, 6) BIRTH(2, 7)
  RESTORE(1) RESTORE(2)
  READY
  COMMIT
  CANCEL
  TICKET
  LOSE_TICKET
  REHELLO(2, 4) REHELLO(2, 5) REHELLO(2, 6) REHELLO(2, 7)
  GRANT(1) GRANT(2)
  ANSWER(1) ANSWER(2)
  BEGIN(1) BEGIN(2)
  CRASH_SOURCE
  CRASH_TARGET(1) CRASH_TARGET(2)
  CRASH_AGENT(0) CRASH_AGENT(1) CRASH_AGENT(2) CRASH_AGENT(3) CRASH_AGENT(4) CRASH_AGENT(5) CRASH_AGENT(6) CRASH_AGENT(7)
#ifdef WITNESS
  /* Must be reachable: the last attempt ends well although everything that may die has died. */
  :: d_step { crashes == CRASHES && !own_death && !arbiter_death && (target[1] == OPEN || target[2] == OPEN) -> assert(false) }
#endif
  :: else ->
    assert(RUNS == 1 || own_death || arbiter_death); /* S7 */
    break
  od
}
