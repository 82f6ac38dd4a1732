/* The migration protocol against an adversary that owns everything outside of enclaves (docs/protocol.md).
 *
 * Checked: S3 (single instance) and S4 (no rollback).
 *
 * The adversary starts and kills enclaves and agents, carries all messages, and decides what happens next. A message
 * that was ever sent may be delivered later, twice, or never: so it is no channel here but a fact that stays true. It
 * cannot forge one: sessions and links are authenticated, REPORTs name the instance. Identity and policy checks are not
 * modelled (they are checks on data, tested in migration/ and trusted/agent/); agents are genuine and follow their
 * program.
 *
 * What only ever helps the adversary it is given at once, which adds behaviours and takes none away:
 *  - every instance can have a session with every agent, as if all were on one machine;
 *  - a key that reached one agent has reached them all, so whoever is born may restore any stream that exists;
 *  - the source may commit at any time after its checkpoint, as inside a VM; host to host it waits for Ready as well.
 *
 * Each step is one atomic transition of one process: the search is over states, not over interleavings of statements.
 * Mutations (-DMUT_…) take away one defence each.
 */
#define NI 4 /* instance 0 runs at the start; 1 … 3 are born to restore */
#define NA 2 /* agent instances: two machines' agents, or one and its clone, or one and its restart */
#define NX 4 /* attempts, 1 … NX in the order in which sources draw them; 0 is none */
#ifndef DRAWS
#define DRAWS NX /* how many attempts are drawn at most */
#endif

/* Gates. */
#define UNBORN 0
#define OPEN 1
#define QUIESCING 2
#define RESTORING 3
#define DESTROYED 4
#define DEAD 5

/* An agent's book on an attempt. */
#define NOTHING 0
#define PREPARED 1
#define TICKETED 2
#define GRANTED 3
#define CANCELLED 4

/* Instances. */
byte gate[NI];
byte epoch[NI];
byte att[NI]; /* source: the attempt under way; target: the attempt whose stream it has restored and verified */

/* Attempts: facts that the adversary holds, and each agent's book. */
byte drawn; /* attempts drawn so far */
byte from_epoch[NX + 1];
byte arbiter[NX + 1]; /* the agent instance that the source's session is with */
bit dumped[NX + 1];   /* the stream exists */
bit ticket[NX + 1];   /* the sealed ticket exists */
byte book[(NX + 1) * NA];
byte grantee[(NX + 1) * NA];
bit agent_dead[NA];

/* What must hold. */
byte running;      /* instances that can execute application code, now or after a cancel */
bit begun[NX + 2]; /* epochs that were activated, ever */

#define BOOK(x, a) book[(x) * NA + (a)]
#define GRANTEE(x, a) grantee[(x) * NA + (a)]

inline activate(i, e) {
  gate[i] = OPEN;
  epoch[i] = e;
  running++;
  assert(running <= 1); /* S3 */
  assert(!begun[e]);    /* S4: an epoch is activated once; so nothing runs from an older state again */
  begun[e] = 1
}

/* The source draws an attempt and seals Prepare for the agent with which it has a session. */
#define DRAW(i, a)                                                                      \
  :: d_step {                                                                           \
    gate[i] == OPEN && att[i] == 0 && drawn < DRAWS && !agent_dead[a] ->                   \
    drawn++;                                                                            \
    att[i] = drawn;                                                                     \
    from_epoch[drawn] = epoch[i];                                                       \
    arbiter[drawn] = a                                                                  \
  }

/* Its Prepare arrives, perhaps late. A newer attempt of the same lineage supersedes before a ticket. */
#define SUPERSEDE(y, x, a)                                                              \
  if                                                                                    \
  :: (y) != (x) && BOOK(y, a) == PREPARED -> BOOK(y, a) = CANCELLED                     \
  :: else                                                                               \
  fi;
#define BEYOND(y, x, a)                                                                 \
  (BOOK(y, a) == TICKETED || (BOOK(y, a) == GRANTED && from_epoch[y] >= from_epoch[x]) || \
   (BOOK(y, a) == PREPARED && from_epoch[y] > from_epoch[x]))
#define PREPARE(x, a)                                                                   \
  :: d_step {                                                                           \
    x <= drawn && arbiter[x] == a && !agent_dead[a] && BOOK(x, a) == NOTHING &&         \
    !BEYOND(1, x, a) && !BEYOND(2, x, a) && !BEYOND(3, x, a) && !BEYOND(4, x, a) ->     \
    BOOK(x, a) = PREPARED;                                                              \
    SUPERSEDE(1, x, a) SUPERSEDE(2, x, a) SUPERSEDE(3, x, a) SUPERSEDE(4, x, a)         \
  }

#define CHECKPOINT(i) \
  :: d_step { gate[i] == OPEN && att[i] != 0 -> gate[i] = QUIESCING; dumped[att[i]] = 1 }

/* Cancel: the gate reopens (or was never closed) and the attempt is forgotten. */
#define CANCEL(i) \
  :: d_step { (gate[i] == QUIESCING || gate[i] == OPEN) && att[i] != 0 -> gate[i] = OPEN; att[i] = 0 }
/* The host cancels in the agent, whether the source knows or not. */
#define CANCEL_BOOK(x, a) :: d_step { BOOK(x, a) == PREPARED && !agent_dead[a] -> BOOK(x, a) = CANCELLED }

/* Self-destroy, and only then the ticket. */
#ifdef MUT_RUN_AFTER_TICKET
#define COMMIT(i) :: d_step { gate[i] == QUIESCING && !ticket[att[i]] -> ticket[att[i]] = 1; gate[i] = OPEN }
#else
#define COMMIT(i) :: d_step { gate[i] == QUIESCING -> ticket[att[i]] = 1; gate[i] = DESTROYED; running-- }
#endif

/* A destroyed gate stays so: no cancel comes after the commit. */
#ifdef MUT_CANCEL_AFTER_COMMIT
#define UNDO(i)                                                                         \
  :: d_step {                                                                           \
    gate[i] == DESTROYED && att[i] != 0 ->                                              \
    gate[i] = OPEN;                                                                     \
    att[i] = 0;                                                                         \
    running++;                                                                          \
    assert(running <= 1)                                                                \
  }
#else
#define UNDO(i)
#endif

/* The ticket is sealed for the one agent instance that has the source's session. */
#ifdef MUT_CLONE_TAKES_TICKET
#define TICKET(x, a) \
  :: d_step { ticket[x] && BOOK(x, a) <= PREPARED && !agent_dead[a] -> BOOK(x, a) = TICKETED }
#else
#define TICKET(x, a) \
  :: d_step { ticket[x] && arbiter[x] == a && BOOK(x, a) == PREPARED && !agent_dead[a] -> BOOK(x, a) = TICKETED }
#endif

/* A fresh instance restores the stream of any attempt whose key an agent ever had. Instances are interchangeable: they
 * are born in order. */
#define RESTORE(i, x)                                                                   \
  :: d_step {                                                                           \
    gate[i] == UNBORN && gate[i - 1] != UNBORN && dumped[x] && BOOK(x, arbiter[x]) != NOTHING -> \
    gate[i] = RESTORING;                                                                \
    att[i] = x                                                                          \
  }

/* The arbiter's one grant, for the instance that the request names. */
#ifdef MUT_GRANT_WITHOUT_TICKET
#define MAY_GRANT(x, a, i) (BOOK(x, a) == TICKETED || BOOK(x, a) == PREPARED)
#elif defined(MUT_UNBOUND_GRANT)
#define MAY_GRANT(x, a, i) (BOOK(x, a) == TICKETED || (BOOK(x, a) == GRANTED && GRANTEE(x, a) != (i)))
#else
#define MAY_GRANT(x, a, i) (BOOK(x, a) == TICKETED)
#endif
#define GRANT(i, a)                                                                     \
  :: d_step {                                                                           \
    gate[i] == RESTORING && !agent_dead[a] && MAY_GRANT(att[i], a, i) ->                \
    BOOK(att[i], a) = GRANTED;                                                          \
    GRANTEE(att[i], a) = i                                                              \
  }

/* The grant arrives, or arrives again: its bytes outlive the arbiter. */
#ifdef MUT_GRANT_FOR_ANYONE
#define NAMES(x, a, i) 1
#else
#define NAMES(x, a, i) (GRANTEE(x, a) == (i))
#endif
#define BEGIN(i, a)                                                                     \
  :: d_step {                                                                           \
    gate[i] == RESTORING && BOOK(att[i], a) == GRANTED && NAMES(att[i], a, i) ->        \
    activate(i, from_epoch[att[i]] + 1);                                                \
    att[i] = 0                                                                          \
  }

/* An instance restores once in its life: the role is latched, and no transition leads back to Restoring. */
#ifdef MUT_RESTORE_AGAIN
#define AGAIN(i, x) \
  :: d_step { gate[i] == DESTROYED && BOOK(x, arbiter[x]) != NOTHING && dumped[x] -> gate[i] = RESTORING; att[i] = x }
#else
#define AGAIN(i, x)
#endif

/* An agent's state never leaves it. If it could be sealed, the host would start a copy from it. */
#ifdef MUT_SEALED_AGENT
#define COPY(x, a) \
  :: d_step { BOOK(x, 1 - a) == TICKETED && BOOK(x, a) == NOTHING -> BOOK(x, a) = TICKETED }
#else
#define COPY(x, a)
#endif

/* Deaths. Nothing of an instance or an agent survives it. */
#ifdef CRASHES
#define CRASH(i)                                                                        \
  :: d_step {                                                                           \
    gate[i] == OPEN || gate[i] == QUIESCING ->                                          \
    running--;                                                                          \
    gate[i] = DEAD;                                                                     \
    att[i] = 0                                                                          \
  }                                                                                     \
  :: d_step { gate[i] == RESTORING -> gate[i] = DEAD; att[i] = 0 }
#define CRASH_AGENT(a) :: d_step { !agent_dead[a] -> agent_dead[a] = 1 }
#else
#define CRASH(i)
#define CRASH_AGENT(a)
#endif

#define EACH_I(M) M(0) M(1) M(2) M(3)
#define EACH_T(M) M(1) M(2) M(3)
#define EACH_A(M) M(0) M(1)
#define EACH_IA(M) M(0, 0) M(0, 1) M(1, 0) M(1, 1) M(2, 0) M(2, 1) M(3, 0) M(3, 1)
#define EACH_TA(M) M(1, 0) M(1, 1) M(2, 0) M(2, 1) M(3, 0) M(3, 1)
#define EACH_XA(M) M(1, 0) M(1, 1) M(2, 0) M(2, 1) M(3, 0) M(3, 1) M(4, 0) M(4, 1)
#define EACH_TX(M) M(1, 1) M(1, 2) M(1, 3) M(1, 4) M(2, 1) M(2, 2) M(2, 3) M(2, 4) M(3, 1) M(3, 2) M(3, 3) M(3, 4)

active proctype world() {
  d_step { activate(0, 0) }
end:
  do
  EACH_IA(DRAW)
  EACH_XA(PREPARE)
  EACH_I(CHECKPOINT)
  EACH_I(CANCEL)
  EACH_XA(CANCEL_BOOK)
  EACH_I(COMMIT)
  EACH_I(UNDO)
  EACH_XA(TICKET)
  EACH_TX(RESTORE)
  EACH_TA(GRANT)
  EACH_TA(BEGIN)
  EACH_TX(AGAIN)
  EACH_XA(COPY)
  EACH_I(CRASH)
  EACH_A(CRASH_AGENT)
#ifdef WITNESS
  /* Must be reachable: three activations, with a cancelled attempt between them. */
  :: d_step { begun[2] && drawn == DRAWS -> assert(false) }
#endif
  od
}
