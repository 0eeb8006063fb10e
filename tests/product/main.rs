//! The product's promises, one a file, kept against peers that are not ours: SIPp, baresip, tshark, multimon-ng. `tests/run` installs them.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used)] // a test ends where its world breaks

mod harness;
mod sipp;

mod a_batch_waits_for_its_time;
mod a_crash_on_virtual_time;
mod a_crm_that_is_down_loses_nothing;
mod a_drain_lets_calls_finish;
mod a_sender_signs_in_its_own_way;
mod a_slip_is_wrong_use;
mod card_digits_stand_nowhere;
mod commands_reach_a_gateway_behind_tls;
mod each_rule_ends_its_call_once;
mod fifty_calls_are_fifty_records;
mod keys_switch_the_secure_phase;
mod killed_in_mid_load;
mod ordinary_phone;
mod recovery;
mod the_demo_agrees_with_tshark;
mod the_secure_phase_needs_every_sink;
mod what_is_held_stays;
