//! The client end of QueueService.Attach: one long-lived stream to every queue replica.
