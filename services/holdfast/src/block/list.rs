//! The blocks of a helpline as a table.

use holdfast_proto::v1::{Block, SupervisionServiceListBlocksResponse as Page};

use super::{At, desk::Desk};
use crate::{
    Failure,
    terminal::say,
    words::{self, short, span},
};

/// Blocks that are asked for at once: as many as the contract gives.
const PAGE: u32 = 500;

const HEAD: &str =
    "block                                 state     left          lasts       reason    of       chat    by";

/// What is listed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    at: At,
}

/// Prints them.
pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let helpline = args.at.helpline.as_str();
    let mut desk = Desk::new(&args.at)?;
    let listed =
        gathered(args.limit, async |after: String, limit| desk.page(helpline, &after, limit).await).await?;
    for line in table(helpline, &listed) {
        say(&line)?;
    }
    Ok(())
}

/// The first `limit` blocks, with the numbers that came with the last of them.
async fn gathered<E>(limit: u32, mut page: impl AsyncFnMut(String, u32) -> Result<Page, E>) -> Result<Page, E> {
    let (mut all, mut left) = (Page::default(), limit);
    while left > 0 {
        let wanted = left.min(PAGE);
        let after = all.blocks.last().map(|block| block.block_id.clone());
        let Page { blocks, in_force, proposed } = page(after.unwrap_or_default(), wanted).await?;
        // Every page that is asked for counts, so even one that comes again and again ends.
        left = if blocks.len() < wanted as usize { 0 } else { left - wanted };
        all.blocks.extend(blocks);
        (all.in_force, all.proposed) = (in_force, proposed);
    }
    Ok(all)
}

fn table(helpline: &str, listed: &Page) -> Vec<String> {
    let Page { blocks, in_force, proposed } = listed;
    if blocks.is_empty() {
        return vec![format!("{helpline}: nobody is blocked, and nothing is proposed")];
    }
    let mut lines = vec![format!("{helpline}: {in_force} in force, {proposed} proposed"), HEAD.to_owned()];
    lines.extend(blocks.iter().map(row));
    let more = u64::from(*in_force) + u64::from(*proposed);
    match more.saturating_sub(blocks.len() as u64) {
        0 => {}
        more => lines.push(format!("and {more} more: --limit shows them")),
    }
    lines
}

fn row(block: &Block) -> String {
    let Block { block_id, of_subject, proposed_by, confirmed_by, .. } = block;
    let (state, by) = match confirmed_by.as_str() {
        "" => ("proposed", proposed_by.clone()),
        confirmed_by => ("in force", format!("{proposed_by}, {confirmed_by}")),
    };
    let left = span(words::duration(block.remaining.as_ref()));
    let lasts = span(words::duration(block.r#for.as_ref()));
    let reason = words::reason(block.reason);
    let of = if *of_subject { "subject" } else { "chat" };
    let chat = if block.chat_id.is_empty() { "-" } else { short(&block.chat_id) };
    format!("{block_id:<36}  {state:<8}  {left:<12}  {lasts:<10}  {reason:<8}  {of:<7}  {chat:<6}  {by}")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use holdfast_proto::v1::SupervisionReason;

    use super::*;

    const ID: &str = "01a2062e-8283-750c-99fb-35ea73f4ca54";

    fn named(number: u32) -> Block {
        Block { block_id: format!("{number:05}"), ..Block::default() }
    }

    /// A helpline with so many blocks, and what was asked of it.
    async fn asked(there: u32, limit: u32) -> (Vec<Block>, Vec<(String, u32)>) {
        let mut asked = Vec::new();
        let listed = gathered(limit, async |after: String, limit| {
            let from = after.parse::<u32>().map_or(0, |after| after + 1);
            asked.push((after, limit));
            let blocks = (from..there).take(limit as usize).map(named).collect();
            Ok::<_, Infallible>(Page { blocks, in_force: there, proposed: 0 })
        });
        let blocks = listed.await.unwrap().blocks;
        (blocks, asked)
    }

    #[tokio::test]
    async fn every_block_is_gathered_page_by_page() {
        let (blocks, asked) = asked(1_203, 5_000).await;
        assert_eq!(blocks, (0..1_203).map(named).collect::<Vec<_>>());
        let pages = [("", 500), ("00499", 500), ("00999", 500)];
        assert_eq!(asked, pages.map(|(after, limit)| (after.to_owned(), limit)));
    }

    #[tokio::test]
    async fn no_more_are_asked_for_than_are_wanted() {
        let (blocks, asked) = asked(1_203, 700).await;
        assert_eq!(blocks.len(), 700);
        assert_eq!(asked, [(String::new(), 500), ("00499".to_owned(), 200)]);
    }

    #[test]
    fn a_block_is_one_line_under_its_head() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let proposed = Block {
            block_id: ID.to_owned(),
            chat_id: "chat-4f2a91".to_owned(),
            proposed_by: "ana".to_owned(),
            reason: SupervisionReason::Misuse.into(),
            remaining: seconds(86_340),
            r#for: seconds(604_800),
            ..Block::default()
        };
        let confirmed = Block {
            chat_id: String::new(),
            of_subject: true,
            confirmed_by: "bo".to_owned(),
            remaining: seconds(600_000),
            ..proposed.clone()
        };

        let lines = table("demo", &Page { blocks: vec![proposed, confirmed], in_force: 2, proposed: 1 });

        assert_eq!(
            lines,
            [
                "demo: 2 in force, 1 proposed",
                HEAD,
                &format!("{ID}  proposed  23 h 59 min   7 d 0 h     misuse    chat     4f2a91  ana"),
                &format!("{ID}  in force  6 d 22 h      7 d 0 h     misuse    subject  -       ana, bo"),
                "and 1 more: --limit shows them",
            ]
        );
    }

    #[test]
    fn that_there_is_none_is_said() {
        assert_eq!(table("demo", &Page::default()), ["demo: nobody is blocked, and nothing is proposed"]);
    }
}
