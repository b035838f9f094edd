//! A text of any kind is an answer in lines.

use proptest::prelude::*;

use super::*;

/// Lines of the annotated file that set a key or open a table, from 1.
fn lines_with_keys() -> Vec<usize> {
    let has_key =
        |line: &str| line.starts_with('[') || line.starts_with(|c: char| c.is_ascii_lowercase());
    AGENT
        .lines()
        .enumerate()
        .filter(|(_, line)| has_key(line))
        .map(|(i, _)| i + 1)
        .collect()
}

proptest! {
    #[test]
    fn a_misspelt_key_is_reported_with_its_line(
        line in prop::sample::select(lines_with_keys()),
        at in any::<prop::sample::Index>(),
        letter in "[a-z]",
        replace in any::<bool>(),
    ) {
        let mut lines: Vec<String> = AGENT.lines().map(str::to_owned).collect();
        let text = &mut lines[line - 1];
        let start = text.len() - text.trim_start_matches('[').len();
        let end = text.find([' ', ']']).unwrap();
        let at = start + at.index(end - start);
        let before = text.clone();
        text.replace_range(at..at + usize::from(replace), &letter);
        prop_assume!(*text != before);
        let mistakes = parse("f", &lines.join("\n"), &Fixed(&[])).unwrap_err();
        prop_assert!(mistakes.iter().any(|m| m.line == line && m.text.contains("key")), "{mistakes}");
    }

    #[test]
    fn arbitrary_text_is_an_answer_in_lines(text in "(?s).{0,200}") {
        one_line_each(&text)?;
    }

    #[test]
    fn a_damaged_file_is_an_answer_in_lines(
        from in any::<prop::sample::Index>(),
        len in 0usize..40,
        instead in "(?s)[\\[\\]{}=,.'\"#\n a-z0-9$]{0,12}",
    ) {
        let chars: Vec<char> = AGENT.chars().collect();
        let from = from.index(chars.len());
        let to = (from + len).min(chars.len());
        let text: String = chars[..from].iter().copied().chain(instead.chars()).chain(chars[to..].iter().copied()).collect();
        one_line_each(&text)?;
    }
}

fn one_line_each(text: &str) -> Result<(), TestCaseError> {
    if let Err(mistakes) = parse("f", text, &Fixed(&[])) {
        prop_assert!(mistakes.iter().count() > 0);
        prop_assert_eq!(
            mistakes.to_string().lines().count(),
            mistakes.iter().count()
        );
    }
    Ok(())
}
